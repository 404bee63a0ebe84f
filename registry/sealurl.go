package registry

// SealURL seals a URL that a callback was called at. It is not sealed anew as callbacks are: once the key is retired, nobody can read it.
func (r *Registry) SealURL(company string, id int64, url string) ([]byte, error) {
	return r.urls.seal(r.keyset, company, id, url)
}

// OpenURL opens what SealURL sealed for that callback. Error: [ErrSealed].
func (r *Registry) OpenURL(company string, id int64, sealed []byte) (string, error) {
	url, err := r.keyset.open(sealed, urlPlace(company, id))
	return string(url), err
}
