package registry

// Cached is how many answers are remembered.
func (ks *Keys) Cached() (known, refused int) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return len(ks.known), len(ks.refused)
}
