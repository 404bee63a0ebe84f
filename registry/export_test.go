package registry

// Cached is how many keys are remembered.
func (ks *Keys) Cached() int {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return len(ks.known)
}
