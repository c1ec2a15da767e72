// A device of Impasto's protocol, version 1, from docs/protocol.md alone: joins a federation, takes part in all rounds,
// brings its adapters home. Training is a small random adapter: this is about everything around it.
//
//   node device.mjs BROKER FEDERATION DEVICE SLOTS.json HOME/     one line of JSON a step on stdout

import { createHash, createPublicKey, randomBytes, verify } from "node:crypto";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import { decode, encode } from "@msgpack/msgpack";
import mqtt from "mqtt";

const [broker, federation, device, slotsFile, home] = process.argv.slice(2);
const { base_id: baseId, slots } = JSON.parse(readFileSync(slotsFile, "utf8"));
const root = `impasto/1/${federation}`;
const topics = {
  state: `${root}/coordinator/state`,
  presence: `${root}/dev/${device}/state`,
  up: `${root}/dev/${device}/up`,
  down: `${root}/dev/${device}/down`,
};
const CHUNK = 131036;
const CREDIT = 32;
const epoch = Math.floor(Date.now() / 1000);
const tell = (event, values = {}) => console.log(JSON.stringify({ event, ...values }));
const hex = (data) => Buffer.from(data).toString("hex");
const isOlder = (a, b) => a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
mkdirSync(home, { recursive: true });

// --- connection (section 2) --------------------------------------------------------------------------------------

const presence = (online) => Buffer.from(encode({ type: "presence", online, epoch }));
const client = mqtt.connect(broker, {
  protocolVersion: 5,
  clientId: device.replace(/[^A-Za-z0-9]/g, "").slice(0, 7) + randomBytes(8).toString("hex"),
  clean: true,
  properties: { sessionExpiryInterval: 60, receiveMaximum: 64, maximumPacketSize: 135168 },
  will: { topic: topics.presence, payload: presence(false), qos: 1, retain: true, properties: { willDelayInterval: 5 } },
});
const say = (message) => client.publish(`${topics.up}/control`, Buffer.from(encode(message)), { qos: 1 });
// A broker may hang up before our goodbye is through.
client.on("error", (error) => (homeAgain ? process.exit(0) : fail(`broker: ${error.message}`)));
client.on("connect", () => {
  client.subscribe([`${topics.down}/+`, topics.state], { qos: 1 });
  client.publish(topics.presence, presence(true), { qos: 1, retain: true });
});
let homeAgain = false;
const deadline = setTimeout(() => fail("the federation did not come to its end in time"), 90_000);

function fail(reason) {
  tell("failed", { reason });
  process.exit(1);
}

// --- what is heard -------------------------------------------------------------------------------------------------

// What must outlive a restart: the coordinator's public key, pinned at the first meeting, and the newest it has said.
const memory = join(home, "coordinator.json");
let { trusted, place } = existsSync(memory) ? JSON.parse(readFileSync(memory, "utf8")) : { trusted: null, place: [0, 0] };
let coordinatorEpoch = -1; // of the last state
let offered = null; // { manifest, data, offer }
const fetches = new Map(); // sha256 -> { manifest, buffer, missing, done }

client.on("message", (topic, payload) => {
  if (topic === `${topics.down}/chunk`) return onChunk(payload);
  if (!payload.length) return;
  const message = decode(payload);
  const rounddone = (done) => tell("rounddone", { round: done.round, accepted: done.accepted });
  const transfers = { pull: onPull, committed: onCommitted, refused: onRefused };
  const rounds = { signedstep: onSigned, welcome: () => tell("joined"), rounddone };
  ({ coordinatorstate: onState, ...rounds, ...transfers })[message.type]?.(message);
});

function onState(state) {
  const said = (state.successions ?? []).map((s) => [s.old, s.new, s.signature]);
  const key = follow(said, hex(state.key));
  const content = ["state", state.epoch, state.online, state.base_id, state.key, said, state.level];
  const good = key === hex(state.key) && isSigned(key, state.signature, ...content);
  if (!good || (trusted !== null && state.epoch < place[0])) return tell("ignored", { state: state.epoch });
  if (!state.online || state.base_id !== baseId) return;
  trusted = key;
  reach(state.epoch, 0);
  if (state.epoch === coordinatorEpoch) return;
  if (state.level !== "plain") fail(`the federation asks for level ${state.level}`);
  coordinatorEpoch = state.epoch;
  const code = Buffer.alloc(64);
  for (let i = 0; i < 16; i++) code.writeFloatLE(Math.sin(i + 1), 4 * i);
  const profile = { base_id: baseId, prompt_code: code, pictures: 5, max_rank: 4, capabilities: { runtime: "node" } };
  say({ type: "join", profile });
  if (offered) say(offered.offer);
}

function onRefused(refused) {
  if (refused.about === "join") fail(`${refused.code}: ${refused.reason}`);
  tell("refused", { code: refused.code });
}

// Signatures, and what is older than what was heard (section 6).
function isSigned(key, signature, what, ...content) {
  const jwk = { kty: "OKP", crv: "Ed25519", x: Buffer.from(key, "hex").toString("base64url") };
  const data = Buffer.from(encode([`impasto/1 ${what}`, federation, ...content]));
  return verify(null, data, createPublicKey({ key: jwk, format: "jwk" }), Buffer.from(signature));
}

// The key that the trusted one leads to, at the most as far as the one that is shown; the first one is believed.
function follow(said, shown) {
  let key = trusted ?? shown;
  for (const [old, following, signature] of said) {
    if (key !== shown && hex(old) === key && isSigned(key, signature, "key", following)) key = hex(following);
  }
  return key;
}

function reach(epoch, round) {
  if (isOlder(place, [epoch, round])) place = [epoch, round];
  store(memory, Buffer.from(JSON.stringify({ trusted, place })));
}

function onSigned({ epoch, step, signature }) {
  const good = trusted !== null && isSigned(trusted, signature, "step", device, epoch, step);
  if (!good) return tell("ignored", { epoch });
  const message = decode(step);
  const react = { roundstart: onRoundStart, finished: onFinished }[message.type];
  const round = message.type === "roundstart" ? message.round : 2 ** 31 - 1;
  if (!react || isOlder([epoch, round], place)) return tell("ignored", { epoch, round });
  reach(epoch, round);
  react(message);
}

// --- rounds (section 6) --------------------------------------------------------------------------------------------

let current = null; // of the newest step: later ones make earlier ones void

async function onRoundStart(start) {
  const manifests = [...start.frozen, ...(start.start ? [start.start] : [])];
  if (start.share !== undefined && start.share !== "both") fail(`cannot train share ${start.share}`);
  current = start;
  for (const manifest of manifests) await bring(manifest);
  if (current !== start) return;
  const data = train(start);
  const manifest = { role: "update", name: `update-${start.round}`, sha256: sha256(data), size: data.length, chunk_size: CHUNK };
  const offer = { type: "offer", round: start.round, attempt: start.attempt, manifest, pictures: 5, first_loss: 1.5, last_loss: 0.5, train_seconds: 0.1 };
  offered = { manifest, data, offer };
  say(offer);
}

async function onFinished(finished) {
  current = finished;
  for (const manifest of finished.adapters) await bring(manifest);
  say({ type: "leave", reason: "finished" });
  tell("finished", { cluster: finished.cluster, adapters: finished.adapters.map((m) => [m.name, m.sha256]) });
  clearTimeout(deadline);
  homeAgain = true;
  client.publish(topics.presence, presence(false), { qos: 1, retain: true }, () => client.end());
}

// An adapter file (docs/adapters.md): safetensors with a small random A and B for every layer.
function train(start) {
  const tensors = {};
  const parts = [];
  let at = 0;
  let random = 1 + start.round;
  for (const slot of [...slots].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const factors = [["lora_A", start.rank, slot.in_features], ["lora_B", slot.out_features, start.rank]];
    for (const [key, rows, columns] of factors) {
      const values = new Float32Array(rows * columns);
      for (let i = 0; i < values.length; i++) {
        random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
        values[i] = 0.1 * (random / 2 ** 31 - 1);
      }
      const bytes = Buffer.from(values.buffer);
      tensors[`${slot.name}.${key}.weight`] = { dtype: "F32", shape: [rows, columns], data_offsets: [at, at + bytes.length] };
      parts.push(bytes);
      at += bytes.length;
    }
  }
  let header = JSON.stringify({ __metadata__: { format: "pt", "impasto.base_id": baseId }, ...tensors });
  header += " ".repeat((8 - (header.length % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, Buffer.from(header), ...parts]);
}

// --- transfers, as the sender and as the receiver (section 5) ------------------------------------------------------

function onPull(pull) {
  if (!offered || pull.sha256 !== offered.manifest.sha256) {
    return say({ type: "refused", code: "NotOffered", reason: "This is not offered (any more).", about: pull.sha256 });
  }
  const { data, manifest } = offered;
  const count = Math.ceil(manifest.size / manifest.chunk_size);
  let left = pull.credit;
  for (let index = 0; index < count && left > 0; index++) {
    if (!((pull.missing[index >> 3] ?? 0) & (1 << index % 8))) continue;
    const head = Buffer.alloc(36);
    Buffer.from(manifest.sha256, "hex").copy(head);
    head.writeUInt32LE(index, 32);
    const piece = data.subarray(index * manifest.chunk_size, (index + 1) * manifest.chunk_size);
    client.publish(`${topics.up}/chunk`, Buffer.concat([head, piece]), { qos: 1 });
    left -= 1;
  }
}

function onCommitted(committed) {
  if (!offered || committed.sha256 !== offered.manifest.sha256) return;
  tell("committed", { round: offered.offer.round, sha256: committed.sha256 });
  offered = null;
}

function bring(manifest) {
  const file = join(home, `${manifest.sha256}.safetensors`);
  if (existsSync(file)) {
    say({ type: "committed", sha256: manifest.sha256 });
    return Promise.resolve();
  }
  return new Promise((done) => {
    const count = Math.ceil(manifest.size / manifest.chunk_size);
    const missing = new Set(Array.from({ length: count }, (_, index) => index));
    const fetch = { manifest, buffer: Buffer.alloc(manifest.size), missing, done, file };
    fetch.timer = setInterval(() => pull(fetch), 5000);
    fetches.set(manifest.sha256, fetch);
    pull(fetch);
  });
}

function pull(fetch) {
  const wanted = [...fetch.missing].sort((a, b) => a - b).slice(0, CREDIT);
  const missing = Buffer.alloc((wanted[wanted.length - 1] >> 3) + 1);
  for (const index of wanted) missing[index >> 3] |= 1 << index % 8;
  fetch.asked = new Set(wanted);
  say({ type: "pull", sha256: fetch.manifest.sha256, missing, credit: wanted.length });
}

function onChunk(payload) {
  const fetch = fetches.get(payload.subarray(0, 32).toString("hex"));
  if (!fetch) return;
  const index = payload.readUInt32LE(32);
  const start = index * fetch.manifest.chunk_size;
  const expected = Math.min(fetch.manifest.chunk_size, fetch.manifest.size - start);
  if (!fetch.missing.has(index) || payload.length - 36 !== expected) return;
  payload.copy(fetch.buffer, start, 36);
  fetch.missing.delete(index);
  fetch.asked.delete(index);
  if (fetch.missing.size) return fetch.asked.size ? undefined : pull(fetch);
  clearInterval(fetch.timer);
  fetches.delete(fetch.manifest.sha256);
  if (sha256(fetch.buffer) !== fetch.manifest.sha256) fail(`${fetch.manifest.name} came damaged`);
  store(fetch.file, fetch.buffer);
  say({ type: "committed", sha256: fetch.manifest.sha256 });
  fetch.done();
}

// Whole or not at all, and synced before anybody is told.
function store(file, data) {
  const handle = openSync(`${file}.part`, "w");
  writeSync(handle, data);
  fsyncSync(handle);
  closeSync(handle);
  renameSync(`${file}.part`, file);
}
