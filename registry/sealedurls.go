package registry

import (
	"strconv"
	"sync"
)

// mostSealedURLs is how many sealed URLs a process remembers: a few for each of its callbacks that are called often.
const mostSealedURLs = 10_000

// sealedURLs are those that were sealed, by their place and text. A URL is sealed once and written down with each request: that tells no more than
// which of a callback's requests had the same.
type sealedURLs struct {
	mu   sync.Mutex
	made map[string][]byte
}

// urlPlace is where a URL that a callback was called at opens.
func urlPlace(company string, id int64) string {
	return company + "/" + strconv.FormatInt(id, 10) + "/url"
}

// seal seals a URL, unless it was sealed before.
func (u *sealedURLs) seal(keyset *Keyset, company string, id int64, url string) ([]byte, error) {
	where := urlPlace(company, id)
	name := where + " " + url
	u.mu.Lock()
	defer u.mu.Unlock()
	if sealed, ok := u.made[name]; ok {
		return sealed, nil
	}
	sealed, err := keyset.seal([]byte(url), where)
	if err != nil {
		return nil, err
	}
	if u.made == nil || len(u.made) >= mostSealedURLs {
		u.made = make(map[string][]byte)
	}
	u.made[name] = sealed
	return sealed, nil
}
