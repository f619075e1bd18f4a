package lossy

import (
	"strconv"
	"time"
)

// kind is what a fate does.
type kind int

const (
	pass kind = iota
	refuse
	dropAnswer
	tearAnswer
	duplicate
	duplicateAtOnce
	delay
	hold
	holdAnswer
	blackhole
)

// Fate is what befalls one request. The zero value is Pass.
type Fate struct {
	kind  kind
	bytes int
	pause time.Duration
	hold  *Hold
}

// Pass delivers the request, and its answer.
func Pass() Fate { return Fate{} }

// Refuse cuts the connection; nothing is delivered.
func Refuse() Fate { return Fate{kind: refuse} }

// DropAnswer delivers the request, lets the upstream finish, and resets the
// client's connection without one byte of the answer.
func DropAnswer() Fate { return Fate{kind: dropAnswer} }

// TearAnswer is DropAnswer after the first bytes of the answer, its status line
// and headers included.
func TearAnswer(bytes int) Fate { return Fate{kind: tearAnswer, bytes: bytes} }

// Duplicate delivers the request, and when it is answered delivers it again.
// The client gets the second answer.
func Duplicate() Fate { return Fate{kind: duplicate} }

// DuplicateAtOnce delivers the request twice at the same time. The client gets
// the answer that comes first.
func DuplicateAtOnce() Fate { return Fate{kind: duplicateAtOnce} }

// Delay delivers the request after a pause, also when the client has left.
func Delay(pause time.Duration) Fate { return Fate{kind: delay, pause: pause} }

// Blackhole delivers nothing and answers nothing until the client leaves.
func Blackhole() Fate { return Fate{kind: blackhole} }

// String is the fate's name, under which Proxy.Count finds it.
func (f Fate) String() string {
	switch f.kind {
	case refuse:
		return "refuse"
	case dropAnswer:
		return "drop answer"
	case tearAnswer:
		return "tear answer"
	case duplicate:
		return "duplicate"
	case duplicateAtOnce:
		return "duplicate at once"
	case delay:
		return "delay"
	case hold:
		return "hold"
	case holdAnswer:
		return "hold answer"
	case blackhole:
		return "blackhole"
	case pass:
		return "pass"
	}
	return "fate " + strconv.Itoa(int(f.kind))
}
