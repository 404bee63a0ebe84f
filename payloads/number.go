package payloads

import (
	"cmp"
	"strconv"
	"strings"
)

// A number is a number of JSON, exactly: 0.digits × 10^point. Its digits have no zero at either end. Zero has none, and is not negative.
type number struct {
	negative bool
	digits   string
	point    int
}

// parseNumber reads the literal of a number, which readJSON let pass: its exponent has three digits at most.
func parseNumber(literal string) (d number) {
	literal, d.negative = strings.CutPrefix(literal, "-")
	if at := strings.IndexAny(literal, "eE"); at >= 0 {
		d.point, _ = strconv.Atoi(strings.TrimPrefix(literal[at+1:], "+"))
		literal = literal[:at]
	}
	whole, fraction, _ := strings.Cut(literal, ".")
	whole = strings.TrimLeft(whole, "0")
	d.point += len(whole)
	if d.digits = whole + fraction; whole == "" {
		d.digits = strings.TrimLeft(fraction, "0")
		d.point -= len(fraction) - len(d.digits)
	}
	d.digits = strings.TrimRight(d.digits, "0")
	if d.digits == "" {
		return number{}
	}
	return d
}

// compare is -1, 0 or 1, as d is less than, equal to or more than e.
func (d number) compare(e number) int {
	if d.negative != e.negative {
		if d.negative {
			return -1
		}
		return 1
	}
	size := d.compareSize(e)
	if d.negative {
		return -size
	}
	return size
}

func (d number) compareSize(e number) int {
	if d.digits == "" || e.digits == "" { // zero is below all others
		return cmp.Compare(len(d.digits), len(e.digits))
	}
	if d.point != e.point {
		return cmp.Compare(d.point, e.point)
	}
	return strings.Compare(d.digits, e.digits)
}
