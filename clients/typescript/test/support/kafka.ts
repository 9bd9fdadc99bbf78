/** Kafka records, written by hand with the few bytes that takes. */

import { connect } from "node:net";

/** A record: its key is the symbol. */
export interface KafkaRecord {
  key: string;
  value: unknown;
}

/** Writes records to a partition and waits until the broker has them. Large numbers go in several requests. */
export async function produce(broker: string, records: readonly KafkaRecord[], partition = 0, topic = "ticks"): Promise<void> {
  for (let at = 0; at < records.length; at += 2_000) {
    const body = request(topic, partition, batch(records.slice(at, at + 2_000)));
    const answer = await ask(broker, body);
    // Correlation ID, topics, name, partitions, index: then the error.
    const error = answer.readInt16BE(4 + 4 + 2 + topic.length + 4 + 4);
    if (error !== 0) throw new Error(`the broker refuses records: error ${error}`);
  }
}

function ask(broker: string, body: Buffer): Promise<Buffer> {
  const [host, port] = broker.split(":");
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const socket = connect(Number(port), host, () => socket.write(body));
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("the broker hung up")));
    socket.on("data", (part) => {
      received = Buffer.concat([received, part]);
      if (received.length >= 4 && received.length >= 4 + received.readInt32BE(0)) {
        resolve(received.subarray(4));
        socket.destroy();
      }
    });
  });
}

function request(topic: string, partition: number, records: Buffer): Buffer {
  const head = Buffer.concat([
    int16(0), // produce
    int16(3),
    int32(7), // correlation ID
    int16(-1), // no client ID
    int16(-1), // no transaction
    int16(1), // the leader confirms
    int32(5_000),
    int32(1),
    int16(topic.length),
    Buffer.from(topic),
    int32(1),
    int32(partition),
    int32(records.length),
    records,
  ]);
  return Buffer.concat([int32(head.length), head]);
}

/** A batch of records, version 2. */
function batch(records: readonly KafkaRecord[]): Buffer {
  const now = int64(BigInt(Date.now()));
  const bodies = records.map(({ key, value }, index) => {
    const [k, v] = [Buffer.from(key), Buffer.from(typeof value === "string" ? value : JSON.stringify(value))];
    const record = Buffer.concat([Buffer.from([0]), varint(0), varint(index), varint(k.length), k, varint(v.length), v, varint(0)]);
    return Buffer.concat([varint(record.length), record]);
  });
  const checked = Buffer.concat([
    int16(0),
    int32(records.length - 1),
    now,
    now,
    int64(-1n), // no producer id, epoch, sequence
    int16(-1),
    int32(-1),
    int32(records.length),
    ...bodies,
  ]);
  return Buffer.concat([int64(0n), int32(9 + checked.length), int32(-1), Buffer.from([2]), uint32(crc32c(checked)), checked]);
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return bytes;
}

/** A number below 2^30, zigzag, seven bits a byte. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value * 2;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** Castagnoli's checksum. */
const TABLE = Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] as number);
  return (crc ^ 0xffffffff) >>> 0;
}
