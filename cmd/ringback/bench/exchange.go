package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// connections is how many idle ones senders keep, more than there are senders.
const connections = 256

// exchange sends one request and reads the answer whole. It shares header with others that send.
func exchange(ctx context.Context, client *http.Client, method, url string, header http.Header, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// A statusError is an answer of the API that is no success.
type statusError struct {
	what   string
	status int
	answer string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s was answered %d: %s", e.what, e.status, e.answer)
}
