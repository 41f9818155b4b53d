package validate

import (
	"iter"
)

// ahead reads a sequence on a goroutine of its own, up to n elements ahead of who takes them. The goroutine has ended when the
// iteration has.
func ahead[T any](seq iter.Seq2[T, error], n int) iter.Seq2[T, error] {
	type element struct {
		value T
		err   error
	}
	return func(yield func(T, error) bool) {
		queue, enough, ended := make(chan element, n), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			defer close(queue)
			for v, err := range seq {
				select {
				case queue <- element{v, err}:
				case <-enough:
					return
				}
			}
		}()
		defer func() {
			close(enough)
			<-ended
		}()
		for e := range queue {
			if !yield(e.value, e.err) {
				return
			}
		}
	}
}

// follower takes values in their order on a goroutine of its own, one behind who gives them, until one fails.
type follower[T any] struct {
	queue  chan T
	failed chan struct{} // closed once err is set
	ended  chan struct{}
	err    error
}

func follow[T any](take func(T) error) *follower[T] {
	f := &follower[T]{queue: make(chan T, 1), failed: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		for v := range f.queue {
			if f.err != nil {
				continue
			}
			if f.err = take(v); f.err != nil {
				close(f.failed)
			}
		}
	}()
	return f
}

// next gives the next value, or returns why one before it failed.
func (f *follower[T]) next(v T) error {
	select {
	case <-f.failed:
		return f.err
	case f.queue <- v:
		return nil
	}
}

// end waits for all that was given. It returns why one of these failed, and else err, which came after them.
func (f *follower[T]) end(err error) error {
	close(f.queue)
	<-f.ended
	if f.err != nil {
		return f.err
	}
	return err
}
