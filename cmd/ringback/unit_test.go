package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestUnitKeepsTheInsideOut: what the unit for systemd denies is the inside, and what it allows besides is this machine.
func TestUnitKeepsTheInsideOut(t *testing.T) {
	t.Parallel()
	words := map[string]string{ // systemd.resource-control(5)
		"localhost": "127.0.0.0/8 ::1/128", "link-local": "169.254.0.0/16 fe80::/64", "multicast": "224.0.0.0/4 ff00::/8",
	}
	listed := func(setting string) []netip.Prefix {
		var list []netip.Prefix
		for line := range strings.Lines(page(t, "deploy/ringback.service")) {
			value, ok := strings.CutPrefix(line, setting+"=")
			if !ok {
				continue
			}
			for word := range strings.FieldsSeq(value) {
				if meaning, ok := words[word]; ok {
					word = meaning
				}
				found, err := prefixes(setting, strings.Fields(word))
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, found...)
			}
		}
		return list
	}
	deny, allow := listed("IPAddressDeny"), listed("IPAddressAllow")
	within := func(list []netip.Prefix, addr string) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(addr)) })
	}
	for addr, reached := range map[string]bool{
		"127.0.0.1": true, "127.0.0.53": true, "::1": true, "1.1.1.1": true, "2606:4700:4700::1111": true,
		"10.1.2.3": false, "172.31.255.255": false, "192.168.0.1": false, "100.100.100.200": false, "169.254.169.254": false, "168.63.129.16": false,
		"0.0.0.1": false, "224.0.0.1": false, "fd00:ec2::254": false, "fe80::1": false, "ff02::1": false,
	} {
		if got := within(allow, addr) || !within(deny, addr); got != reached {
			t.Errorf("%s can be reached: %t, want %t", addr, got, reached)
		}
	}
}
