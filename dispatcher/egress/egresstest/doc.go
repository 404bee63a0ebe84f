// Package egresstest holds what tries to get inside, as one table for all tests: [URLs], [Inner] addresses and [Names]. [Enter] gives a test
// a network of its own in which each of them can be tried for real: every address there is leads to a listener that counts, and nothing
// leads out.
package egresstest
