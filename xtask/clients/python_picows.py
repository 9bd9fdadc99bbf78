"""Python `picows`: the same, on the library that quant scripts take for speed."""

import asyncio
import json
import sys

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect


class Client(WSListener):
    def __init__(self, events_wanted: int) -> None:
        self.events_wanted, self.events, self.is_answered, self.fault = events_wanted, 0, False, None

    def on_ws_connected(self, transport: WSTransport) -> None:
        subscriptions = [{"channel": "quotes", "symbols": ["*"]}]
        request = {"op": "subscribe", "id": 1, "subscriptions": subscriptions}
        transport.send(WSMsgType.TEXT, json.dumps(request).encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = json.loads(frame.get_payload_as_bytes())
        if isinstance(message, list):
            if not self.is_answered:
                self.fault = "an event before the answer"
            self.events += len(message)
        elif message["op"] == "ack":
            self.is_answered = all(result["ok"] for result in message["results"])
        if self.fault or self.events >= self.events_wanted:
            transport.send_close()


async def main(url: str, events_wanted: int) -> None:
    client = Client(events_wanted)
    transport, _ = await ws_connect(lambda: client, url)
    await asyncio.wait_for(transport.wait_disconnected(), 30)
    assert client.fault is None, client.fault
    assert client.is_answered and client.events >= events_wanted, client.events
    print(f"ok {client.events} events")


asyncio.run(main(sys.argv[1], int(sys.argv[3])))
