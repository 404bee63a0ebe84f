import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const secret = 'whsec_…' // the callback's signing secret goes here

function verify(headers, body, secret) {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64')
  if (key.length < 24) throw new Error('the signing secret is not in its place')
  const sent = headers['webhook-timestamp']
  if (!(Math.abs(Date.now() / 1000 - Number(sent)) <= 300)) return false
  const mac = createHmac('sha256', key).update(`${headers['webhook-id']}.${sent}.`).update(body)
  const want = Buffer.from('v1,' + mac.digest('base64'))
  return (headers['webhook-signature'] ?? '').split(' ').some(one => { // two while a secret is replaced
    const got = Buffer.from(one)
    return got.length === want.length && timingSafeEqual(got, want)
  })
}

createServer(async (req, res) => {
  const chunks = []
  for await (const chunk of req) chunks.push(chunk)
  const body = Buffer.concat(chunks) // as it came, before anything parses it
  res.writeHead(verify(req.headers, body, secret) ? 204 : 401).end() // after a 204: keep it, and work on it later
}).listen(9000, '127.0.0.1')
