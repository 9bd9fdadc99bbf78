// Command client subscribes with coder/websocket, takes events, pings and closes.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

type control struct {
	Op      string `json:"op"`
	Results []struct {
		OK bool `json:"ok"`
	} `json:"results"`
}

func run(url, compression string, wanted int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	options := &websocket.DialOptions{Subprotocols: []string{"tickgate.v1.json"}}
	if compression == "deflate" {
		options.CompressionMode = websocket.CompressionNoContextTakeover
	}
	socket, response, err := websocket.Dial(ctx, url, options)
	if err != nil {
		return err
	}
	defer func() { _ = socket.CloseNow() }()
	socket.SetReadLimit(1 << 20)
	request := `{"op":"subscribe","id":1,"subscriptions":[{"channel":"quotes","symbols":["*"]}]}`
	if err := socket.Write(ctx, websocket.MessageText, []byte(request)); err != nil {
		return err
	}
	events, answered := 0, false
	for events < wanted {
		_, message, err := socket.Read(ctx)
		if err != nil {
			return err
		}
		if message[0] == '[' {
			if !answered {
				return fmt.Errorf("an event before the answer")
			}
			var batch []json.RawMessage
			if err := json.Unmarshal(message, &batch); err != nil {
				return err
			}
			events += len(batch)
			continue
		}
		var said control
		if err := json.Unmarshal(message, &said); err != nil {
			return err
		}
		if said.Op == "ack" {
			answered = len(said.Results) == 1 && said.Results[0].OK
		}
	}
	ponged := make(chan error, 1)
	go func() { ponged <- socket.Ping(ctx) }()
	for {
		select {
		case err := <-ponged:
			if err != nil {
				return err
			}
			fmt.Printf("ok %d events, extensions [%s]\n", events, response.Header.Get("Sec-WebSocket-Extensions"))
			return socket.Close(websocket.StatusNormalClosure, "")
		default:
			// A pong is only seen while somebody reads.
			if _, _, err := socket.Read(ctx); err != nil {
				return err
			}
		}
	}
}

func main() {
	wanted, err := strconv.Atoi(os.Args[3])
	if err == nil {
		err = run(os.Args[1], os.Args[2], wanted)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
