// Receives webhooks: believes signed messages only, skips what it has, and answers when it has stored the rest.
//
//	WEBHOOK_SECRET=whsec_… go run examples/webhook_receiver.go 9000
//
// Only Go itself is needed. The module standard-webhooks does what check does. Where places keeps what was stored in
// memory, keep it in your database, together with what you make of the events.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tolerance    = 5 * time.Minute
	bodyMaxBytes = 64 << 20
)

type event struct {
	SeqNum int64           `json:"seqNum"`
	Name   string          `json:"name"`
	Args   json.RawMessage `json:"args"`
}

type message struct {
	Type string `json:"type"`
	Data struct {
		StoreID   string  `json:"storeId"`
		BackendID string  `json:"backendId"`
		UpTo      int64   `json:"upTo"`
		Events    []event `json:"events"`
	} `json:"data"`
}

// place is how far we have a store: the identity of its log, and the number of the last event.
type place struct {
	identity string
	known    int64
}

var (
	secrets [][]byte
	lock    sync.Mutex
	places  = map[string]place{}
)

// check tells whether a message was signed with one of our secrets, not long ago.
func check(headers http.Header, body []byte) bool {
	id, timestamp := headers.Get("webhook-id"), headers.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || math.Abs(time.Since(time.Unix(seconds, 0)).Seconds()) > tolerance.Seconds() {
		return false
	}
	for _, secret := range secrets {
		signer := hmac.New(sha256.New, secret)
		fmt.Fprintf(signer, "%s.%s.", id, timestamp)
		signer.Write(body)
		for _, given := range strings.Split(headers.Get("webhook-signature"), " ") {
			signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(given, "v1,"))
			if err == nil && hmac.Equal(signature, signer.Sum(nil)) {
				return true
			}
		}
	}
	return false
}

// store takes what we do not have yet.
func store(received message) {
	lock.Lock()
	defer lock.Unlock()
	data := received.Data
	switch received.Type {
	case "store.reset":
		places[data.StoreID] = place{data.BackendID, 0}
		fmt.Printf("%s begins anew\n", data.StoreID)
	case "store.deleted":
		delete(places, data.StoreID)
		fmt.Printf("%s is gone\n", data.StoreID)
	case "store.events":
		known := places[data.StoreID]
		if known.identity != data.BackendID {
			known = place{data.BackendID, 0}
		}
		for _, each := range data.Events {
			if each.SeqNum > known.known {
				fmt.Printf("%s e%d %s %s\n", data.StoreID, each.SeqNum, each.Name, each.Args)
			}
		}
		if data.UpTo > known.known {
			known.known = data.UpTo
		}
		places[data.StoreID] = known
	}
}

func receive(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, bodyMaxBytes))
	var received message
	switch {
	case err != nil:
		response.WriteHeader(http.StatusRequestEntityTooLarge)
	case !check(request.Header, body):
		response.WriteHeader(http.StatusUnauthorized)
	case json.Unmarshal(body, &received) != nil:
		response.WriteHeader(http.StatusBadRequest)
	default:
		store(received)
		response.WriteHeader(http.StatusNoContent)
	}
}

func main() {
	for _, text := range strings.Fields(os.Getenv("WEBHOOK_SECRET")) {
		secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
		if err != nil {
			log.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("receiving on http://%s/\n", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(receive)))
}
