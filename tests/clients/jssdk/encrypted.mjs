// An encrypted conversation through matrix-js-sdk of users at two servers:
// node encrypted.mjs ALICES_BASEURL BOBS_BASEURL.

import { EventType } from "matrix-js-sdk";
import { VerificationPhase } from "matrix-js-sdk/lib/crypto-api/index.js";
import { arrived, equal, login as loginAt, password, register, restart, run, start, state, until, within } from "./common.mjs";

const [alices, bobs] = process.argv.slice(2);

let alice, bob, laptop, roomId; // laptop is a later device of Alice
const secrets = {}; // the keys of users' secret storage, by user
const texts = []; // what was said, in order

const steps = {
    "users register at both servers": async () => {
        await register(alices, "alice");
        await register(bobs, "bob");
    },
    "their devices publish keys": async () => {
        alice = await login(alices, "alice");
        bob = await login(bobs, "bob");
    },
    "they make cross-signing keys, secret storage and a backup": async () => {
        state.troubled = true; // there is no secret storage yet when the keys for it are made
        await bootstrap(alice);
        await bootstrap(bob);
        state.troubled = false;
    },
    "an encrypted room is made and joined": async () => {
        const encryption = { type: EventType.RoomEncryption, state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
        const made = await alice.createRoom({ preset: "trusted_private_chat", is_direct: true, invite: [bob.getUserId()], initial_state: [encryption] });
        roomId = made.room_id;
        await until("the invite", () => room(bob)?.getMyMembership() === "invite");
        await bob.joinRoom(roomId);
        await until("the own join", () => room(bob).getMyMembership() === "join");
        await until("the other's join", () => room(alice)?.getJoinedMemberCount() === 2);
        for (const client of [alice, bob]) equal(await client.getCrypto().isEncryptionEnabledInRoom(roomId), true);
    },
    "they talk both ways": async () => {
        await say(alice, "Hello Bob");
        await say(bob, "Hello Alice");
        await say(alice, "How are you?");
    },
    "they verify each other by emoji": async () => {
        await verify(alice, bob);
        for (const [one, other] of [[alice, bob], [bob, alice]]) {
            const verified = () => one.getCrypto().getUserVerificationStatus(other.getUserId()).then((status) => status.isCrossSigningVerified());
            await until("the verification", verified);
        }
    },
    "they go on after a restart of the servers": async () => {
        state.troubled = true;
        await restart();
        await say(bob, "Still there?");
        await say(alice, "Still here");
        state.troubled = false;
    },
    "the keys of what was said are in the backup": async () => {
        for (const client of [alice, bob]) {
            await until("the keys", async () => (await stored(client)) >= 2);
        }
    },
    "a new device proves to be the user's own": async () => {
        state.troubled = true; // what was said it cannot read yet
        laptop = await login(alices, "alice");
        equal(await laptop.getCrypto().userHasCrossSigningKeys(alice.getUserId(), true), true);
        await laptop.getCrypto().bootstrapCrossSigning({});
        const trusts = (client) => async () =>
            (await client.getCrypto().getDeviceVerificationStatus(alice.getUserId(), laptop.getDeviceId()))?.crossSigningVerified;
        await until("the trust of the other device", trusts(alice));
        await until("the trust of the other user", trusts(bob));
    },
    "it restores the history from the backup": async () => {
        const crypto = laptop.getCrypto();
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        const { imported, total } = await crypto.restoreKeyBackup();
        equal(imported, total);
        await until("the trust of the backup", async () => (await crypto.checkKeyBackupAndEnable())?.trustInfo.trusted);
        const timeline = room(laptop).getLiveTimeline();
        while (timeline.getPaginationToken("b") !== null) {
            await laptop.paginateEventTimeline(timeline, { backwards: true });
        }
        const messages = timeline.getEvents().filter((event) => event.getWireType() === EventType.RoomMessageEncrypted);
        await until("the texts", () => messages.every((event) => event.getType() === EventType.RoomMessage));
        equal(messages.map((event) => event.getContent().body).filter(Boolean), texts);
        state.troubled = false;
    },
    "all three devices talk": async () => {
        await say(bob, "Which one is that?", [laptop]);
        await say(laptop, "My laptop", [laptop]);
        await say(alice, "And my telephone", [laptop]);
    },
    "nothing was sent in the clear": async () => {
        for (const client of [alice, bob, laptop]) {
            const events = room(client).getLiveTimeline().getEvents();
            equal(events.filter((event) => texts.includes(event.getWireContent().body)).length, 0);
            equal(events.filter((event) => texts.includes(event.getContent().body)).length, texts.length);
        }
    },
    "a backup is replaced": async () => {
        const before = await alice.getCrypto().getActiveSessionBackupVersion();
        await alice.getCrypto().resetKeyBackup();
        equal((await alice.getCrypto().getActiveSessionBackupVersion()) === before, false);
        await until("the keys", async () => (await stored(alice)) >= 2);
    },
};

// login gives a client of a new device that encrypts, and syncs.
async function login(baseUrl, name) {
    const cryptoCallbacks = {
        getSecretStorageKey: async ({ keys }) => {
            const id = Object.keys(keys).find((id) => secrets[id]);
            return id ? [id, secrets[id]] : null;
        },
        cacheSecretStorageKey: (id, info, key) => void (secrets[id] = key),
    };
    const client = await loginAt(baseUrl, name, { cryptoCallbacks });
    await client.initRustCrypto({ useIndexedDB: false });
    return start(client);
}

// bootstrap makes all that the first device of a user makes.
async function bootstrap(client) {
    const crypto = client.getCrypto();
    const auth = { type: "m.login.password", identifier: { type: "m.id.user", user: client.getUserId() }, password };
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (request) => request(auth) });
    const createSecretStorageKey = () => crypto.createRecoveryKeyFromPassphrase();
    await crypto.bootstrapSecretStorage({ createSecretStorageKey, setupNewSecretStorage: true, setupNewKeyBackup: true });
    await until("cross-signing", () => crypto.isCrossSigningReady());
    await until("secret storage", () => crypto.isSecretStorageReady());
    await until("the backup", async () => (await crypto.getActiveSessionBackupVersion()) !== null);
}

// stored is how many keys there are in the backup of a user.
const stored = async (client) => (await client.getCrypto().checkKeyBackupAndEnable()).backupInfo.count;

// verify has two users compare emoji.
async function verify(one, other) {
    const asked = await within("the request", one.getCrypto().requestVerificationDM(other.getUserId(), roomId));
    let answered;
    await until("the request", () => (answered = other.getCrypto().findVerificationRequestDMInProgress(roomId, one.getUserId())));
    await within("the answer", answered.accept());
    await until("the answer", () => asked.phase === VerificationPhase.Ready);
    const verifiers = [await within("the start", asked.startVerification("m.sas.v1"))];
    await until("the start", () => answered.verifier);
    verifiers.push(answered.verifier);
    const done = verifiers.map((verifier) => verifier.verify());
    await until("the emoji", () => verifiers.every((verifier) => verifier.getShowSasCallbacks()));
    const [a, b] = verifiers.map((verifier) => verifier.getShowSasCallbacks());
    equal(a.sas.emoji, b.sas.emoji);
    await within("the comparison", Promise.all([a.confirm(), b.confirm()]));
    await within("the verification", Promise.all(done));
}

// say sends a message and waits until all can read it.
async function say(client, body, more = []) {
    texts.push(body);
    const { event_id: id } = await client.sendTextMessage(roomId, body);
    for (const hearer of [alice, bob, ...more]) {
        const event = () => room(hearer)?.findEventById(id);
        await until(`"${body}"`, () => arrived(event()) && event().getContent().body === body);
        equal([event().isEncrypted(), event().getType()], [true, EventType.RoomMessage]);
    }
}

const room = (client) => client.getRoom(roomId);

await run(steps);
