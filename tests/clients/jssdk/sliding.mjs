// The conversation of talk.mjs over sliding sync: node sliding.mjs BASEURL.

import { state } from "./common.mjs";

state.sliding = true;
await import("./talk.mjs");
