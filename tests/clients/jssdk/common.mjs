// What the conversations through matrix-js-sdk share. Every script gets the addresses of the
// servers as its arguments.
//
// Prints a line "ok N - what" or "not ok N - what" for each step, after a line "1..N" that
// tells how many there are. After the line "restart" it waits for a line on its input: by
// then, the servers were restarted. Warnings and errors of the SDK go to standard error.

import { webcrypto } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "matrix-js-sdk";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";

const patience = 60_000; // ms, for what has to arrive
export const password = "correct horse battery staple";
export const state = {
    troubled: false, // by what the test does itself: then errors say nothing
    sliding: false, // sync loops are those of sliding sync
};

const { log: print, error: complain } = console;
console.log = console.trace = console.debug = console.info = () => {};
console.warn = console.error = (...what) => {
    // The SDK adds rules that are not in the specification to every server's push rules.
    const usual = / push rule \.org\./.test(what[0]);
    if (!state.troubled && !usual) complain(...what);
};

// What the SDK asks of Node.js 20 and 22, for older ones.
globalThis.crypto ??= webcrypto;
Promise.withResolvers ??= () => {
    const made = {};
    made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
    return made;
};

export async function register(baseUrl, name) {
    const anyone = createClient({ baseUrl });
    const challenge = await anyone.registerRequest({ username: name, password }).catch((error) => error);
    equal(challenge.httpStatus, 401);
    const auth = { type: "m.login.dummy", session: challenge.data.session };
    await anyone.registerRequest({ username: name, password, auth });
}

export async function login(baseUrl, name, options) {
    const identifier = { type: "m.id.user", user: name };
    const session = await createClient({ baseUrl }).loginRequest({ type: "m.login.password", identifier, password });
    const { access_token: accessToken, user_id: userId, device_id: deviceId } = session;
    return createClient({ baseUrl, accessToken, userId, deviceId, ...options });
}

export async function start(client, options) {
    if (state.sliding) options = { ...options, slidingSync: slidingSync(client, options?.initialSyncLimit) };
    await client.startClient({ lazyLoadMembers: true, ...options });
    await until("the first sync", () => client.isInitialSyncComplete());
    return client;
}

// slidingSync asks for all rooms, and of each for all state but members that are not needed.
function slidingSync(client, limit) {
    const wanted = { timeline_limit: limit ?? 50, required_state: [["*", "*"], ["m.room.member", "$ME"], ["m.room.member", "$LAZY"]] };
    const lists = new Map([["rooms", { ranges: [[0, 99]], ...wanted }]]);
    return new SlidingSync(client.baseUrl, lists, wanted, client, 20_000);
}

// restart has the servers restarted. Until it returns, the SDK may complain.
export async function restart() {
    const input = createInterface({ input: process.stdin });
    print("restart");
    await once(input, "line");
    input.close();
}

// arrived tells that an event came with a sync: what a client sends, it shows before that.
export const arrived = (event) => event?.status === null;

export async function until(what, holds) {
    for (const end = Date.now() + patience; Date.now() < end; await sleep(20)) {
        if (await holds()) return;
    }
    throw new Error(`did not arrive: ${what}`);
}

// within gives what a promise gives, unless that takes too long.
export function within(what, promise) {
    const late = sleep(patience, undefined, { ref: false }).then(() => Promise.reject(new Error(`did not end: ${what}`)));
    return Promise.race([promise, late]);
}

export function equal(got, wanted) {
    const [a, b] = [got, wanted].map((value) => JSON.stringify(value));
    if (a !== b) throw new Error(`got ${a}, not ${b}`);
}

// run does the steps, and ends the process.
export async function run(steps) {
    print(`1..${Object.keys(steps).length}`);
    for (const [index, [what, step]] of Object.entries(steps).entries()) {
        try {
            await step();
            print(`ok ${index + 1} - ${what}`);
        } catch (error) {
            print(`not ok ${index + 1} - ${what}: ${error?.stack ?? error}`.replaceAll("\n", " | "));
            process.exit(1);
        }
    }
    process.exit(0);
}
