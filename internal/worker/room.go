package worker

import (
	"fmt"
	"time"

	"github.com/lapidary-ml/lapidary/internal/session"
)

// room is the memory that there was when a worker started.
type room struct {
	free   func() int64 // what there is now; nil where nobody watches
	begin  int64
	looked time.Time
}

func newRoom(free func() int64) room {
	if free == nil {
		return room{}
	}
	return room{free: free, begin: free(), looked: time.Now()}
}

// lookEvery is often enough for a process that fills a gigabyte in half a second, and rare
// enough not to be seen in what is timed.
const lookEvery = 50 * time.Millisecond

// wait is how long it is until the next look.
func (r *room) wait() time.Duration {
	if r.begin <= 0 {
		return time.Hour
	}
	return lookEvery - min(time.Since(r.looked), lookEvery)
}

// look returns an error where a process has more than half of the memory that there was,
// and less than a twentieth is left. Two of them that share a machine are ended one
// after the other, and one that gets along with little on a full machine is not.
func (r *room) look(pid int) error {
	r.looked = time.Now()
	if r.begin <= 0 {
		return nil
	}
	has := resident(pid)
	if has < r.begin/2 {
		return nil
	}
	left := r.free()
	if left >= r.begin/20 {
		return nil
	}
	return session.OutOfMemory{Watched: true, Reason: fmt.Sprintf(
		"the worker process was ended: it has taken %d MiB of memory, and %d MiB are left: use a smaller batch, or a machine or a container with more", has>>20, left>>20)}
}
