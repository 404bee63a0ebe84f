// Reads requests as JSON from stdin, and says of each what a receiver in Node finds: with its own crypto, jose and an RFC 9421 library.
import { createHash, KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createLocalJWKSet, calculateJwkThumbprint } from 'jose';
const { httpbis, createVerifier } = createRequire(import.meta.url)('http-message-signatures');


async function keysOf(jwks) {
  const find = createLocalJWKSet(jwks), keys = [];
  for (const jwk of jwks.keys) {
    const key = await find({ alg: 'EdDSA', kid: jwk.kid }); // jose finds it by its id, or throws
    keys.push({ key, kid: jwk.kid, thumbprint: await calculateJwkThumbprint(jwk) });
  }
  return keys;
}

async function standard({ headers, body }, keys) {
  const text = Buffer.concat([Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.`), body]);
  for (const signature of headers['webhook-signature'].split(' ')) {
    const [version, encoded] = signature.split(',');
    if (version !== 'v1a') continue;
    for (const { key } of keys) {
      if (await crypto.subtle.verify('Ed25519', key, Buffer.from(encoded, 'base64'), text)) return true;
    }
  }
  return false;
}

async function message({ method, url, headers, body }, keys) {
  const digest = createHash('sha256').update(body).digest('base64');
  if (headers['content-digest'] !== `sha-256=:${digest}:`) return 'the digest is of another body';
  try {
    const verified = await httpbis.verifyMessage({
      requiredFields: ['@method', '@target-uri', 'content-type', 'content-digest', 'webhook-id'],
      requiredParams: ['created', 'keyid', 'alg'],
      all: true,
      maxAge: 300,
      async keyLookup({ keyid }) {
        const found = keys.find(k => k.kid === keyid);
        return found && { id: keyid, algs: ['ed25519'], verify: createVerifier(KeyObject.from(found.key), 'ed25519') };
      },
    }, { method, url, headers });
    return verified === true ? '' : `verifyMessage said ${verified}`;
  } catch (e) {
    return e.message;
  }
}

const said = [];
for (const c of JSON.parse(readFileSync(0, 'utf8'))) {
  const request = { ...c, body: Buffer.from(c.body ?? '', 'base64') };
  const keys = await keysOf(c.jwks);
  said.push({
    kids: keys.every(k => k.kid === k.thumbprint),
    standard: c.headers['webhook-signature'] ? await standard(request, keys) : false,
    message: c.headers['signature-input'] ? await message(request, keys) : 'unsigned',
  });
}
console.log(JSON.stringify(said));
