// A conversation through matrix-js-sdk, with its own sync loop: node talk.mjs BASEURL.

import { once } from "node:events";
import { EventType, RelationType } from "matrix-js-sdk";
import { arrived, equal, login as loginAt, register as registerAt, restart, run, start, state, until } from "./common.mjs";

const [baseUrl] = process.argv.slice(2);
const register = (name) => registerAt(baseUrl, name);
const login = (name) => loginAt(baseUrl, name);

let alice, bob, carol, roomId, first, said;
const texts = []; // what was said, in order

const steps = {
    "two users register": async () => {
        await register("alice");
        await register("bob");
    },
    "they log in and sync": async () => {
        alice = await start(await login("alice"));
        bob = await start(await login("bob"));
    },
    "a room of version 12 is made": async () => {
        const made = await alice.createRoom({ preset: "private_chat", name: "Planning", topic: "What comes next" });
        roomId = made.room_id;
        await until("the room", () => room(alice)?.getMyMembership() === "join");
        equal(room(alice).getVersion(), "12");
        equal(room(alice).name, "Planning");
    },
    "an invite arrives": async () => {
        await alice.invite(roomId, bob.getUserId(), { reason: "come in" });
        await until("the invite", () => room(bob)?.getMyMembership() === "invite");
        equal(room(bob).name, "Planning");
        equal(room(bob).getMember(bob.getUserId()).events.member.getSender(), alice.getUserId());
    },
    "a join is seen by both": async () => {
        await bob.joinRoom(roomId);
        await until("the own join", () => room(bob).getMyMembership() === "join");
        await until("the other's join", () => room(alice).getJoinedMemberCount() === 2);
        equal(room(bob).currentState.getStateEvents("m.room.topic", "").getContent().topic, "What comes next");
    },
    "they talk both ways": async () => {
        first = await say(alice, "Hello Bob");
        await say(bob, "Hello Alice");
        await say(alice, "How are you?");
    },
    "typing is seen and ends": async () => {
        const typing = () => room(alice).getMember(bob.getUserId()).typing;
        await bob.sendTyping(roomId, true, 20_000);
        await until("typing", typing);
        await bob.sendTyping(roomId, false, 0);
        await until("the end of typing", () => !typing());
    },
    "a receipt is seen": async () => {
        const event = room(bob).findEventById(first);
        await bob.sendReadReceipt(event);
        await until("the receipt", () => room(alice).getEventReadUpTo(bob.getUserId(), true) === first);
    },
    "the sync loops go on after a restart of the server": async () => {
        state.troubled = true;
        // With sliding sync the loops begin anew, and take what was sent before that for known.
        const begun = state.sliding ? [alice, bob].map((client) => once(client, "Room")) : [];
        await restart();
        await Promise.all(begun);
        await say(alice, "Still there?");
        await say(bob, "Still here");
        state.troubled = false;
    },
    "an edit is seen": async () => {
        said = await say(alice, "a slpi");
        const content = { msgtype: "m.text", body: "* a slip", "m.new_content": { msgtype: "m.text", body: "a slip" } };
        content["m.relates_to"] = { rel_type: RelationType.Replace, event_id: said };
        await alice.sendMessage(roomId, content);
        await until("the edit", () => room(bob).findEventById(said).getContent().body === "a slip");
        texts[texts.indexOf("a slpi")] = "a slip";
    },
    "a reaction is seen": async () => {
        const content = { "m.relates_to": { rel_type: RelationType.Annotation, event_id: said, key: "👍" } };
        await bob.sendEvent(roomId, EventType.Reaction, content);
        const reactions = () => room(alice).relations.getChildEventsForEvent(said, "m.annotation", "m.reaction");
        await until("the reaction", () => reactions()?.getSortedAnnotationsByKey()?.[0][0] === "👍");
    },
    "a redaction is seen": async () => {
        await alice.redactEvent(roomId, said, undefined, { reason: "a slip" });
        await until("the redaction", () => room(bob).findEventById(said).isRedacted());
        equal(room(bob).findEventById(said).getRedactionEvent().content.reason, "a slip");
        texts.splice(texts.indexOf("a slip"), 1);
    },
    "a new display name is seen": async () => {
        await bob.setDisplayName("Bob the Builder");
        await until("the name", () => room(alice).getMember(bob.getUserId()).name === "Bob the Builder");
        equal((await alice.getProfileInfo(bob.getUserId())).displayname, "Bob the Builder");
    },
    "members are loaded lazily": async () => {
        await register("carol");
        carol = await start(await login("carol"), { initialSyncLimit: 1 });
        await alice.invite(roomId, carol.getUserId());
        await until("the invite", () => room(carol)?.getMyMembership() === "invite");
        await carol.joinRoom(roomId);
        await until("the join", () => room(alice).getJoinedMemberCount() === 3);
        await say(alice, "Welcome Carol");
        const late = await start(await login("carol"), { initialSyncLimit: 1 });
        equal(room(late).getJoinedMemberCount(), 3);
        equal(room(late).getMember(bob.getUserId()), null);
        equal(room(late).getMember(alice.getUserId()).membership, "join");
        await room(late).loadMembersIfNeeded();
        equal(room(late).getMember(bob.getUserId()).name, "Bob the Builder");
        equal(room(late).getJoinedMembers().length, 3);
        late.stopClient();
    },
    "history is loaded backwards": async () => {
        const late = await start(await login("bob"), { initialSyncLimit: 1 });
        const timeline = room(late).getLiveTimeline();
        for (let pages = 0; pages < 20 && timeline.getPaginationToken("b") !== null; pages++) {
            await late.paginateEventTimeline(timeline, { backwards: true, limit: 5 });
        }
        equal(timeline.getPaginationToken("b"), null);
        equal(timeline.getEvents()[0].getType(), "m.room.create");
        equal(heard(late), texts);
        late.stopClient();
    },
    "everything was heard once and in order": async () => {
        equal(heard(alice), texts);
        equal(heard(bob), texts);
    },
    "a leave is seen by both": async () => {
        await bob.leave(roomId);
        await until("the own leave", () => room(bob).getMyMembership() === "leave");
        await until("the other's leave", () => room(alice).getMember(bob.getUserId()).membership === "leave");
        equal(room(alice).getJoinedMemberCount(), 2);
        await bob.forget(roomId);
        equal(room(bob), null);
    },
    "a logout ends the session": async () => {
        state.troubled = true;
        const ended = once(bob, "Session.logged_out");
        await bob.logout(true);
        const [error] = await bob.whoami().then(() => ended, (error) => [error]);
        equal(error.errcode, "M_UNKNOWN_TOKEN");
        await alice.whoami();
    },
};

// say sends a message and waits until both have it.
async function say(client, body) {
    texts.push(body);
    const { event_id: id } = await client.sendTextMessage(roomId, body);
    await until(`"${body}"`, () => [alice, bob].every((hearer) => arrived(room(hearer).findEventById(id))));
    return id;
}

const room = (client) => client.getRoom(roomId);

// heard are the messages in the timeline of a client, but for edits and what was redacted.
function heard(client) {
    const messages = room(client).getLiveTimeline().getEvents().filter((event) => event.getType() === "m.room.message");
    const texts = messages.filter((event) => !event.isRedacted() && !event.isRelation("m.replace"));
    return texts.map((event) => event.getContent().body);
}

await run(steps);
