"""Python `websockets`: subscribes, takes events, pings, closes, and holds the gateway to its manners."""

import asyncio
import json
import sys

import websockets


async def main(url: str, wants_compression: bool, events_wanted: int) -> None:
    compression = "deflate" if wants_compression else None
    async with websockets.connect(url, subprotocols=["tickgate.v1.json"], compression=compression) as socket:
        assert socket.subprotocol == "tickgate.v1.json", socket.subprotocol
        hello = json.loads(await socket.recv())
        assert hello["op"] == "hello" and hello["protocol"] == 1, hello
        await socket.send(json.dumps({"op": "subscribe", "id": 1, "subscriptions": [
            {"channel": "quotes", "symbols": ["*"]}, {"channel": "trades", "symbols": ["*"], "on_slow": "skip"}]}))
        ack, events = None, 0
        while ack is None or events < events_wanted:
            message = json.loads(await asyncio.wait_for(socket.recv(), 20))
            if isinstance(message, list):
                assert ack, "an event before the answer"
                events += len(message)
            elif message["op"] == "ack":
                assert all(result["ok"] for result in message["results"]), message
                ack = message
        await asyncio.wait_for(await socket.ping(), 5)
        extensions = [extension.name for extension in socket.protocol.extensions]
    assert socket.close_code == 1000, socket.close_code
    print(f"ok {events} events, extensions {extensions}")


asyncio.run(main(sys.argv[1], sys.argv[2] == "deflate", int(sys.argv[3])))
