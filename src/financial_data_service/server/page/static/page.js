// The root page: it follows the service and shows its symbols.
//
// One WebSocket brings every window of every symbol (see /asyncapi.yaml). /symbols has the limits,
// /metrics the requests, /readyz the files that cannot be served. No other host is asked.
//
//   follow ──▶ Board (symbols, their windows and histories) ──▶ View, at most once a frame

import { Board } from "./board.js";
import { View, kMaxOf } from "./view.js";

const INTERVAL_MS = 250; // of updates
const SAMPLE_MS = 500; // of histories
const FRAME_MS = 20; // Updates within it are shown together.
const POLL_MS = 2000;
const NO_FIGURES = [404, 429, 503]; // of /metrics: it is off, or the service has too much to do
const ANSWER_MS_MAX = 5000;
const RETRY_MS = [250, 500, 1000, 2000];

const byId = (id) => document.getElementById(id);

// --- The service

class WrongKeyError extends Error {}

class RefusedError extends Error {
  constructor(status) {
    super(`The service answers ${status}`);
    this.status = status;
  }
}

let apiKey = sessionStorage.getItem("fds-api-key") ?? "";

async function ask(path) {
  const headers = apiKey ? { "X-API-Key": apiKey } : {};
  let reply;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    reply = await fetch(path, { headers, signal, cache: "no-store" });
  } catch {
    throw new Error("The service does not answer");
  }
  if (reply.status === 401) throw new WrongKeyError((await reply.json()).detail);
  if (!reply.ok) throw new RefusedError(reply.status);
  return reply;
}

/** Follow the stream until it ends; fails with the reason. */
function watch(board, limits, onOpen) {
  const address = new URL("stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  if (apiKey) address.searchParams.set("api_key", apiKey);
  const socket = new WebSocket(address);
  const kMax = kMaxOf(limits); // The board may still have the limits from before a restart.
  const params = Array.from({ length: kMax }, (_, i) => `stats.*.${i + 1}@${INTERVAL_MS}ms`);
  let problem = "The connection to the service is lost";
  const poll = setInterval(() => {
    look(board).catch((error) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      problem = error.message;
      socket.close();
      onEnd(); // A host that is gone does not answer the close frame either.
    });
  }, POLL_MS);
  let onEnd;
  return new Promise((resolve, reject) => {
    onEnd = () => {
      clearInterval(poll);
      reject(new Error(problem));
    };
    socket.onopen = () => {
      socket.send(JSON.stringify({ method: "SUBSCRIBE", params, id: 1 }));
      onOpen();
      look(board).catch(() => {});
    };
    socket.onmessage = (event) => {
      try {
        board.take(JSON.parse(event.data));
      } catch (error) {
        problem = error.message;
        socket.close();
      }
      show();
    };
    socket.onclose = (event) => {
      if (event.reason) problem = `The service closed the connection: ${event.reason}`;
      onEnd();
    };
  });
}

/** Ask for what is not in the stream. This also notices a service that hangs. */
async function look(board) {
  await measure(board);
  await readRefused(board);
  show();
}

/** Ask which files are rejected: no stream has their symbols. */
async function readRefused(board) {
  try {
    board.refused = (await (await ask("readyz")).json()).refused ?? [];
  } catch {
    // Keep what was known until there is an answer.
  }
}

let counted = null;

/** Read from /metrics when the service started, and how many requests it has answered. */
async function measure(board) {
  let reply;
  try {
    reply = await ask("metrics");
  } catch (error) {
    if (!NO_FIGURES.includes(error.status)) throw error;
    board.requestRate = null;
    return;
  }
  const now = Date.now();
  const text = await reply.text();
  const total = sumOf(text, "fds_requests_total");
  const starts = valuesOf(text, "process_start_time_seconds");
  const ahead = (Date.parse(reply.headers.get("date") ?? "") || now) - now; // of this clock
  const startedAt = 1000 * Math.min(...starts) - (Math.abs(ahead) > 2000 ? ahead : 0);
  board.startedAt = starts.length ? startedAt : null;
  if (counted && total >= counted.total) {
    board.requestRate = (1000 * (total - counted.total)) / (now - counted.at);
  }
  counted = { total, at: now };
}

function valuesOf(text, name) {
  return text
    .split("\n")
    .filter((line) => line.startsWith(name) && "{ ".includes(line[name.length]))
    .map((line) => Number(line.slice(line.lastIndexOf(" "))));
}

function sumOf(text, name) {
  return valuesOf(text, name).reduce((sum, value) => sum + value, 0);
}

async function follow(board) {
  let failures = 0;
  for (;;) {
    try {
      const limits = await (await ask("symbols")).json();
      await watch(board, limits, () => {
        board.begin(limits);
        failures = 0;
        show();
      });
    } catch (error) {
      if (error instanceof WrongKeyError) {
        await withoutKey(board, error.message);
        continue;
      }
      board.lose(error.message);
      show();
    }
    await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
  }
}

/** Show that the service requires a key, and wait until the user enters one. */
async function withoutKey(board, reason) {
  board.wantsKey = true;
  show();
  await askForKey(reason);
  board.wantsKey = false;
  show();
}

/** Wait; end early when the network comes back. */
function pause(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
    addEventListener("online", resolve, { once: true });
  });
}

function askForKey(reason) {
  byId("metrics").hidden = true; // A link cannot send the key.
  const form = byId("key-form");
  byId("key-problem").textContent = apiKey
    ? "That is not the key of this service."
    : "This service requires a key.";
  byId("key-problem").title = reason;
  form.hidden = false;
  byId("key").focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      apiKey = byId("key").value;
      sessionStorage.setItem("fds-api-key", apiKey);
      form.hidden = true;
      resolve();
    };
  });
}

// --- The page

const board = new Board();
const url = new URL(".", document.baseURI).href;
const view = new View(byId("view"), show);
let isDue = false;

/** Render soon, once for all changes until then. */
function show() {
  if (isDue) return;
  isDue = true;
  setTimeout(() => requestAnimationFrame(() => {
    isDue = false;
    view.render({ url, ...board.model(view.bands) });
    if (board.isArriving) show();
  }), FRAME_MS);
}

byId("metrics").hidden = apiKey !== "";
view.find("refused").after(byId("key-form"));
setInterval(() => {
  if (!board.limits) return;
  board.sample();
  show();
}, SAMPLE_MS);
follow(board);
