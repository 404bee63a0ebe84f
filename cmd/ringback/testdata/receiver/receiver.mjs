// A partner's server for TestContracts. It listens on a free port and says where. Then it reads from stdin, as JSON, what it has
// agreed upon for each URL, {"/hook?a=b": {"secret": "whsec_…", "answers": [503, 204]}}, and says "ready". Of each request it prints a
// line of JSON, with what the Standard Webhooks library says of the signature over the body as it came.
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { Webhook } from 'standardwebhooks'

let agreed = {}

const server = createServer(async (request, response) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const body = Buffer.concat(chunks)
  const { method, url, headers } = request

  let problem = `nothing is agreed upon for ${url}`
  let status = 404
  if (Object.hasOwn(agreed, url)) {
    const { secret, answers } = agreed[url]
    status = answers.length > 1 ? answers.shift() : answers[0]
    try {
      new Webhook(secret).verify(body, headers)
      problem = ''
    } catch (error) {
      problem = String(error)
      status = 401
    }
  }
  const [event, attempt] = [headers['ringback-event-id'], headers['ringback-attempt']]
  console.log(JSON.stringify({ event, attempt, method, url, headers, body: body.toString('base64'), problem }))

  response.statusCode = status
  if (status === 200) response.setHeader('Content-Type', 'application/json')
  response.end(status === 200 ? '{ "success" : true }' : undefined)
})

server.listen(0, '127.0.0.1', async () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`)
  agreed = JSON.parse(await text(process.stdin))
  console.log('ready')
})
