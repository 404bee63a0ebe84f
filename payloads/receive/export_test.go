package receive

// MaxAge is for tests of this package alone.
var MaxAge = maxAge
