package provider

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"roost/api"
	"roost/api/client"
)

// maxGenerations bounds how often one thing can be made anew while the keys of
// the times before are still kept by the server (24 h by default). Each costs a
// request and a read, once.
const maxGenerations = 200

// wish is one thing that is planned to be made. Equal wishes are the same wish,
// whichever process has them: that is what makes a repeated apply safe.
type wish struct {
	namespace string
	resource  string // type of the Terraform resource
	parent    string // what it belongs to, "" for none
	name      string // its name, its place among others, or its configuration
}

// key is the wish's Idempotency-Key in a generation.
func (w wish) key(generation int) string {
	return digest(w.namespace, w.resource, w.parent, w.name, strconv.Itoa(generation))
}

// digest makes a key of parts. Each goes in with its length, so that no two
// lists of parts are one text.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return "tf-" + hex.EncodeToString(h.Sum(nil)[:24])
}

// maker is how a wish is sent and judged.
type maker struct {
	// send asks for it under a key.
	send func(ctx context.Context, key string) (id api.ID, replayed bool, err error)
	// alive reports whether what an earlier request made is still there.
	alive func(ctx context.Context, id api.ID) (bool, error)
}

// made is what a wish came to.
type made struct {
	id       api.ID
	key      string
	replayed bool // an earlier request had made it
}

// errGenerations means that a wish was granted and undone too often.
var errGenerations = fmt.Errorf("it was made and deleted %d times within the life of its idempotency keys; wait until they expire, or set another namespace", maxGenerations)

// fulfil makes what is wished, or finds what an earlier request made of the
// same wish. What it finds may be configured otherwise.
//
// A replay shows what the key is bound to and not whether that still exists
// (the body of an echo is as old as the key), so it is read. What is gone or
// going moves the wish to its next generation, which no request has used yet or
// for which the same holds.
func (p *platform) fulfil(ctx context.Context, w wish, m maker) (made, error) {
	for generation := range maxGenerations {
		key := w.key(generation)
		id, replayed, err := m.send(ctx, key)
		if client.HasCode(err, api.CodeIdempotencyKeyReused) {
			// The same wish, described otherwise: the configuration has
			// changed since, and an earlier apply got as far as this.
			id, err = p.boundTo(ctx, key)
			replayed = true
		}
		if err != nil {
			return made{}, err
		}
		if !replayed {
			return made{id: id, key: key}, nil
		}
		alive, err := m.alive(ctx, id)
		if err != nil {
			return made{}, err
		}
		if alive {
			return made{id: id, key: key, replayed: true}, nil
		}
	}
	return made{}, errGenerations
}

// boundTo is the resource that a key has made.
func (p *platform) boundTo(ctx context.Context, key string) (api.ID, error) {
	k, err := p.LookupKey(ctx, key)
	if err != nil {
		return api.ID{}, fmt.Errorf("look up what an earlier apply made: %w", err)
	}
	if k.ResourceID == nil {
		return api.ID{}, errors.New("look up what an earlier apply made: the key names no resource")
	}
	return *k.ResourceID, nil
}

// ours reports whether a request under this very key made what it is bound to.
// A key can also come to name a CVM that was there before: the server answers
// the create of an app that has one, of the same configuration, with it.
func (p *platform) ours(ctx context.Context, key string) (bool, error) {
	k, err := p.LookupKey(ctx, key)
	if err != nil {
		return false, fmt.Errorf("look up who made it: %w", err)
	}
	if k.OperationID == nil {
		return false, nil
	}
	op, err := p.Operation(ctx, *k.OperationID)
	if err != nil {
		return false, fmt.Errorf("look up who made it: %w", err)
	}
	return op.RequestID == k.RequestID, nil
}

// cvmAlive reports whether a CVM is there and not on its way out.
func (p *platform) cvmAlive(ctx context.Context, id api.ID) (bool, error) {
	cvm, err := p.CVM(ctx, id)
	if client.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read what an earlier apply made: %w", err)
	}
	return live(cvm), nil
}

// live reports whether a CVM counts.
func live(cvm api.CVM) bool {
	return cvm.Status != api.StatusDeleting && cvm.Status != api.StatusDeleted
}
