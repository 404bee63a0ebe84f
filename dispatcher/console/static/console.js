// What pages get better by. Each works without it.
"use strict";

// Times are in the viewer's zone. Their title keeps UTC, as the server wrote it.
const zone = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short",
});

function partsOf(time) {
  const parts = {};
  for (const part of zone.formatToParts(new Date(time))) parts[part.type] = part.value;
  return parts;
}

function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title], [data-clock])")) {
    const parts = partsOf(time.dateTime);
    time.title = time.textContent;
    time.textContent = `${parts.year}-${parts.month}-${parts.day} ${parts.hour}:${parts.minute}:${parts.second} ${parts.timeZoneName}`;
  }
  // Minutes of the day, in sentences and on the axes of drawings: "08:33 UTC" or "08:33", with more words behind them or not.
  for (const said of root.querySelectorAll("[data-clock]")) {
    const parts = partsOf(said.dataset.clock);
    if (said.dateTime) said.title = said.textContent;
    said.textContent = said.textContent.replace(/^\d\d:\d\d/, `${parts.hour}:${parts.minute}`).replace(/ UTC\b/, ` ${parts.timeZoneName}`);
    said.removeAttribute("data-clock");
  }
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const said of root.querySelectorAll("[data-zone]")) said.textContent = here || "your zone";
}

// How far times lie from now is told anew as time goes by.
const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function span(seconds) {
  const said = [];
  for (const [name, long] of units) {
    const n = Math.floor(seconds / long);
    seconds -= n * long;
    if (n > 0) said.push(`${n} ${name}`);
    else if (said.length > 0) break;
    if (said.length === 2) break;
  }
  return said.join(" ") || "less than 1 s";
}

function apart(then) {
  const seconds = Math.round((then - Date.now()) / 1000);
  if (seconds > 0) return "in " + span(seconds);
  if (seconds > -1) return "now";
  return span(-seconds) + " ago";
}

function age(root) {
  for (const ago of root.querySelectorAll("[data-ago]")) ago.textContent = apart(Date.parse(ago.dataset.ago));
}

// Ids and examples can be copied.
function copyable(root) {
  if (!navigator.clipboard) return;
  for (const source of root.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    const text = source.textContent;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    source.after(button);
  }
}

// A form that finds events has fields for the attributes of the type that is chosen. Without script they come with the page that the form leads to.
function attributesOfTypes() {
  const types = document.querySelector("[data-attributes-of]");
  types?.addEventListener("change", () => {
    const query = new URLSearchParams(new FormData(types.form));
    const request = new XMLHttpRequest();
    request.responseType = "document";
    request.addEventListener("load", () => {
      const fresh = request.response?.querySelector("[data-attributes]");
      if (fresh) types.form.querySelector("[data-attributes]").replaceWith(fresh);
    });
    request.open("GET", types.form.action + "?" + query);
    request.send();
  });
}

// Pages about something that goes on are brought up to date, unless somebody is busy in them. Whoever wants them to stand still can stop that.
function follow() {
  const going = document.querySelector("[data-refresh]");
  if (!going) return;
  for (const link of document.querySelectorAll("[data-unscripted]")) link.hidden = true;
  const seconds = Number(going.dataset.refresh);
  const stop = document.createElement("button");
  stop.type = "button";
  const say = () => { stop.textContent = timer ? "Stop refreshing" : `Refresh every ${seconds} s`; };
  let timer = setInterval(refresh, seconds * 1000);
  stop.addEventListener("click", () => {
    if (timer) clearInterval(timer);
    timer = timer ? 0 : setInterval(refresh, seconds * 1000);
    say();
  });
  say();
  document.querySelector("footer p").append(" ", stop);
}

function refresh() {
  const main = document.querySelector("main");
  if (document.hidden || main.contains(document.activeElement) && document.activeElement !== main || !getSelection().isCollapsed) return;
  const request = new XMLHttpRequest();
  request.responseType = "document";
  request.addEventListener("load", () => {
    const fresh = request.response?.querySelector("main");
    if (request.status !== 200 || !fresh) return;
    main.replaceChildren(...fresh.childNodes);
    better(main);
  });
  request.open("GET", location.href);
  request.send();
}

// Lists of deliveries keep up with what happens: the server tells of each change, and rows come, change and go. Whoever is busy in a list, or
// wants it to stand still, can stop that.
const mostRows = 100;

function live() {
  const list = document.querySelector("[data-live]");
  if (!list || !window.EventSource) return;
  const table = list.querySelector("table"), body = table.tBodies[0], parts = list.querySelector("template").content;
  const wanted = list.dataset.states.split(" ").filter(Boolean);
  const button = document.createElement("button"), said = document.createElement("span"), bar = document.createElement("p");
  let source = null;
  button.type = "button";
  bar.className = "meta live";
  bar.append(said, " ", button);
  list.before(bar);
  const change = (event) => {
    const delivery = JSON.parse(event.data);
    const old = [...body.rows].find((row) => row.dataset.id === delivery.delivery_id);
    if (wanted.length && !wanted.includes(delivery.state)) {
      old?.remove();
      return;
    }
    const row = rowOf(parts, delivery);
    if (old) old.replaceWith(row);
    else body.prepend(row);
    while (body.rows.length > mostRows) body.rows[body.rows.length - 1].remove();
    table.hidden = false;
    const none = list.querySelector(".empty");
    if (none) none.hidden = true;
  };
  const start = () => {
    source = new EventSource(list.dataset.live);
    source.addEventListener("delivery", change);
    source.addEventListener("open", () => { said.textContent = "Live: changes appear as they happen."; });
    source.addEventListener("gap", () => { said.textContent = "More happened than is told here: load the page again."; });
    source.addEventListener("error", () => { said.textContent = "The connection broke off, and comes back by itself."; });
    button.textContent = "Stand still";
  };
  const stop = () => {
    source.close();
    source = null;
    said.textContent = "The list stands still.";
    button.textContent = "Go live";
  };
  button.addEventListener("click", () => source ? stop() : start());
  start();
}

function rowOf(parts, delivery) {
  const row = parts.querySelector("tr").cloneNode(true);
  const fill = (name) => row.querySelector(`[data-fill=${name}]`) ?? document.createElement("a");
  row.dataset.id = delivery.delivery_id;
  const pill = parts.querySelector(`[data-state="${CSS.escape(delivery.state)}"]`);
  fill("state").append(pill ? pill.firstElementChild.cloneNode(true) : delivery.state);
  fill("event").append(...breaks(delivery.event_id));
  fill("event").href += encodeURIComponent(delivery.delivery_id);
  fill("type").append(...breaks(delivery.event_type));
  fill("callback").textContent = delivery.callback_id;
  fill("callback").href += delivery.callback_id;
  fill("summary").append(...says(delivery.summary));
  const time = document.createElement("time"), ago = document.createElement("span");
  time.dateTime = ago.dataset.ago = delivery.accepted_at;
  time.textContent = utc(delivery.accepted_at);
  ago.className = "ago";
  fill("accepted").append(time, " ", ago);
  better(row);
  return row;
}

// A page that shows a secret once was made by a form. Whoever loads it again gets the page that goes on from there, and does not send the form again.
function once() {
  const shown = document.querySelector("[data-instead]");
  if (shown) history.replaceState(null, "", shown.dataset.instead);
}

// Texts of the API's are shown as the server shows them: they begin with a capital letter, end with a full stop, and have times and code in them.
const written = /(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|`[^`]+`)/;

function says(text) {
  text = text.trim();
  if (text && !/[.!?]$/.test(text)) text += ".";
  text = text.charAt(0).toUpperCase() + text.slice(1);
  return text.split(written).map((part, i) => {
    if (i % 2 === 0) return part;
    const found = document.createElement(part.startsWith("`") ? "code" : "time");
    found.textContent = found.dateTime === undefined ? part.slice(1, -1) : utc(found.dateTime = part);
    return found;
  });
}

// A time as the server writes it.
function utc(time) {
  return new Date(time).toISOString().replace("T", " ").replace(/\..*/, " UTC");
}

// Names are broken where the server breaks them.
function breaks(name) {
  return name.split(/(?<=[/.\-:_?&@,])/).flatMap((part, i) => i ? [document.createElement("wbr"), part] : [part]);
}

function better(root) {
  localize(root);
  age(root);
  copyable(root);
}

document.addEventListener("DOMContentLoaded", () => {
  better(document);
  once();
  attributesOfTypes();
  follow();
  live();
  setInterval(() => age(document), 10000);
});
