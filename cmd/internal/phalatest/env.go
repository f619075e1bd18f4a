package phalatest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// ciphertext is the encrypted_env of an app: as given, or its Env encrypted
// anew for the key; nil without either.
func (a App) ciphertext(pubkey string) (*string, error) {
	if a.Env == nil {
		return a.EncryptedEnv, nil
	}
	plain, _ := json.Marshal(a.Env) //nolint:errchkjson // strings always encode
	sealed, err := encrypt(plain, pubkey)
	if err != nil {
		return nil, fmt.Errorf("encrypt env: %w", err)
	}
	return &sealed, nil
}

// encrypt seals for an X25519 key in hex: another ciphertext each time.
func encrypt(plain []byte, pubkey string) (string, error) {
	raw, err := hex.DecodeString(pubkey)
	if err != nil {
		return "", fmt.Errorf("decode public key: %w", err)
	}
	theirs, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return "", fmt.Errorf("read public key: %w", err)
	}
	mine, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make key: %w", err)
	}
	shared, err := mine.ECDH(theirs)
	if err != nil {
		return "", fmt.Errorf("agree on a secret: %w", err)
	}
	block, err := aes.NewCipher(shared)
	if err != nil {
		return "", fmt.Errorf("make cipher: %w", err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return "", fmt.Errorf("make cipher: %w", err)
	}
	return hex.EncodeToString(append(mine.PublicKey().Bytes(), gcm.Seal(nil, nil, plain, nil)...)), nil
}
