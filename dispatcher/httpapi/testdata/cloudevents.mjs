// Reads requests as JSON, [{headers, body}], and says what the CloudEvents SDK makes of each.
import { readFileSync } from "node:fs";
import { HTTP } from "cloudevents";

const said = JSON.parse(readFileSync(0, "utf8")).map((request) => {
  try {
    if (!HTTP.isEvent(request)) return { fault: "no event" };
    const event = HTTP.toEvent(request);
    event.validate();
    return JSON.parse(JSON.stringify(event));
  } catch (e) {
    return { fault: String(e) };
  }
});
console.log(JSON.stringify(said));
