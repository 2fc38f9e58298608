// A peer of another implementation: go-libp2p with go-libp2p-pubsub. It dials the multiaddr given, joins the topic,
// publishes numbered messages, and reports on stdout, as JSON lines, what it hears. It seals what it publishes as a node
// seals updates, and decrypts what it hears as a node decrypts heads. docs/protocol.md describes both.
//
//	interop MULTIADDR TOPIC MESSAGES PERIOD_MS JOB PUBLIC_KEY KEY_ID KEY
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

var (
	stdout = json.NewEncoder(os.Stdout)
	lock   sync.Mutex
)

func report(line map[string]string) {
	lock.Lock()
	defer lock.Unlock()
	stdout.Encode(line)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// docs/protocol.md: author, topic and content.
func messageID(message *pb.Message) string {
	hash := sha256.New()
	fmt.Fprintf(hash, "lora-swarm/gossip\x00%s\x00", message.GetTopic())
	hash.Write(message.GetFrom())
	hash.Write(message.GetData())
	return string(hash.Sum(nil)[:20])
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

// seal encrypts an update to the public key of a job.
func seal(content []byte, publicKey []byte, job string, author string) []byte {
	key := must(ecdh.X25519().NewPublicKey(publicKey))
	info := "lora-swarm/2/sealed\x00update\x00" + job + "\x00" + author
	recipient := must(hpke.NewDHKEMPublicKey(key))
	return must(hpke.Seal(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), content))
}

// decryptHead decrypts a head with the key of a job.
func decryptHead(message []byte, job string, id uint32, key []byte) ([]byte, error) {
	if len(message) < 16 || binary.BigEndian.Uint32(message) != id {
		return nil, fmt.Errorf("the head is under another key")
	}
	aead := must(cipher.NewGCM(must(aes.NewCipher(key))))
	associated := append([]byte("lora-swarm/2/head\x00"+job+"\x00"), message[:4]...)
	return aead.Open(nil, message[4:16], message[16:], associated)
}

func main() {
	ctx := context.Background()
	address, topicName := os.Args[1], os.Args[2]
	messages := must(strconv.Atoi(os.Args[3]))
	period := time.Duration(must(strconv.Atoi(os.Args[4]))) * time.Millisecond
	job, publicKey := os.Args[5], must(hex.DecodeString(os.Args[6]))
	keyID, key := must(strconv.ParseUint(os.Args[7], 10, 32)), must(hex.DecodeString(os.Args[8]))

	host := must(libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
	))
	host.Network().Notify(&network.NotifyBundle{
		DisconnectedF: func(network.Network, network.Conn) { report(map[string]string{"event": "disconnected"}) },
	})
	gossip := must(pubsub.NewGossipSub(ctx, host,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithMessageIdFn(messageID),
	))
	topic := must(gossip.Join(topicName))
	subscription := must(topic.Subscribe(pubsub.WithBufferSize(1024)))
	go func() {
		for {
			message, err := subscription.Next(ctx)
			if err != nil {
				return
			}
			if message.ReceivedFrom != host.ID() {
				head := must(decryptHead(message.Data, job, uint32(keyID), key))
				report(map[string]string{"event": "heard", "sha256": digest(head)})
			}
		}
	}()
	info := must(peer.AddrInfoFromString(address))
	must(0, host.Connect(ctx, *info))
	report(map[string]string{"event": "connected", "peer": host.ID().String()})

	// The parent says when both sides see each other's subscription.
	stdin := bufio.NewReader(os.Stdin)
	must(stdin.ReadString('\n'))
	// What go-libp2p publishes before its first heartbeat has made a mesh reaches no peer.
	meshed := pubsub.WithReadiness(pubsub.MinTopicSize(1))
	sizes := []int{200, 4_000, 60_000, 200_000}
	for i := 0; i < messages; i++ {
		text := []byte(fmt.Sprintf("go-libp2p message %d ", i))
		data := bytes.Repeat(text, sizes[i%len(sizes)]/len(text)+1)
		must(0, topic.Publish(ctx, seal(data, publicKey, job, host.ID().String()), meshed))
		report(map[string]string{"event": "published", "sha256": digest(data)})
		time.Sleep(period)
	}
	report(map[string]string{"event": "done"})
	// The parent closes stdin when it has counted.
	stdin.ReadString('\n')
}
