package lanes

import (
	"context"
	"time"
)

// weighs is how many bytes count as one more task.
const weighs = 16 << 10

// A crowd is what waits of one company for one lane.
type crowd struct {
	company string
	number  uint64  // in the order they came
	weight  int     // 0: not known yet
	used    float64 // by its company, when it was last looked at: it may be more by now
	size    int
	turns   []int64
	tasks   map[int64][]Waiting // by callback
}

// A Waiting is a task that is to come into a lane.
type Waiting struct {
	Lane, Company string
	Callback      int64
	Name          string // the same for the same task: none waits twice
	Bytes         int    // of its payload; 0 if that is not known
	Enter         func(ctx context.Context)

	since time.Time
}

func (w Waiting) cost() int { return 1 + w.Bytes/weighs }

// next is the task of the callback whose turn it is.
func (c *crowd) next() Waiting { return c.tasks[c.turns[0]][0] }

// pop takes it out, and gives the next callback its turn.
func (c *crowd) pop() Waiting {
	callback := c.turns[0]
	w := c.next()
	c.turns = c.turns[1:]
	c.size--
	if left := c.tasks[callback][1:]; len(left) > 0 {
		c.tasks[callback] = left
		c.turns = append(c.turns, callback)
	} else {
		delete(c.tasks, callback)
	}
	return w
}

// turns are crowds, the one first whose company used least, and of those that used as much the one that came first. It is a heap.
type turns []*crowd

func (t turns) Len() int { return len(t) }

func (t turns) Less(i, j int) bool {
	return t[i].used < t[j].used || t[i].used == t[j].used && t[i].number < t[j].number
}

func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

func (t *turns) Push(c any) { *t = append(*t, c.(*crowd)) } //nolint:forcetypeassert // by heap, of what it was given

func (t *turns) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return c
}
