package receive

// For tests of this package alone.
var (
	ParseJWKS = parseJWKS
	MaxAge    = maxAge
)
