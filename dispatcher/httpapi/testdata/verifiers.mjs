// Verifies requests with the libraries that receivers have, each as it came, and with another body.
import { verify as github } from "@octokit/webhooks-methods";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";
import { Webhook as Svix } from "svix";

const stripe = new Stripe("sk_test_none");
const libraries = {
  standardwebhooks: (secret, headers, body) => new Webhook(secret).verify(body, headers),
  svix: (secret, headers, body) => new Svix(secret).verify(body, headers),
  stripe: (secret, headers, body) => stripe.webhooks.constructEvent(body, headers["stripe-signature"], secret),
  octokit: async (secret, headers, body) => {
    if (!(await github(secret, body, headers["x-hub-signature-256"]))) throw new Error("it does not match");
  },
};

let text = "";
for await (const chunk of process.stdin) text += chunk;
const said = [];
for (const { library, secret, headers, body } of JSON.parse(text)) {
  const takes = async (body) => {
    try {
      await libraries[library](secret, headers, body);
      return "";
    } catch (e) {
      return String(e.message || e);
    }
  };
  said.push({ as_sent: await takes(body), changed: await takes(body.replace("OK", "NO")) });
}
console.log(JSON.stringify(said));
