package dispatcher

import "testing"

// TestALookAtManyPlacesIsBounded: whoever comes back stands at a place of its own, and all of them together read so much in a look at most.
func TestALookAtManyPlacesIsBounded(t *testing.T) {
	t.Parallel()
	for places := 1; places <= livePlaces; places++ {
		if most := changesAt(places); most < 1 || most > liveChanges || most*places > liveChangesAll {
			t.Errorf("at %d places it reads %d changes of each", places, most)
		}
	}
	if changesAt(1) != liveChanges || changesAt(livePlaces) < 16 {
		t.Errorf("too few: %d at one place, %d at each of many", changesAt(1), changesAt(livePlaces))
	}
}
