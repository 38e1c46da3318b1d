// An OpenID provider that nobody here wrote (oidc-provider), whose keys change while calls run through the gateway.
//
//     node run.mjs PROVIDER_PORT GATEWAY_URL ADMIN_URL
//
// Rounds: a key that is published one refresh before it signs must lose no call; one that signs at once may only lose calls for
// one floor and the second that a call waits. The keys are fetched at most once for each floor all the while.
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { exportJWK, generateKeyPair } from 'jose'
import Provider from 'oidc-provider'

const [port, gateway, admin] = process.argv.slice(2)
const issuer = `http://127.0.0.1:${port}`
// As in oidc.sh.
const REFRESH = 2000
const FLOOR = 1000
const PATIENCE = 1000
const CALLERS = 8

let fetches = 0
let serve

/** Lets a provider with these keys answer from now on; it signs by the first. */
function publish(keys) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'caller', client_secret: 'a secret of the test', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [], id_token_signed_response_alg: 'ES256',
    }],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:library',
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'read', audience: 'library', accessTokenTTL: 600, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  })
  serve = provider.callback()
}

async function key(kid) {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  return { ...(await exportJWK(privateKey)), kid, alg: 'ES256', use: 'sig' }
}

async function token() {
  const reply = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('caller:' + encodeURIComponent('a secret of the test'))}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'read' }),
  })
  if (!reply.ok) throw new Error(`the provider gives no token: ${reply.status} ${await reply.text()}`)
  return (await reply.json()).access_token
}

async function call(bearer) {
  const started = performance.now()
  const reply = await fetch(`${gateway}/v1/shelves`, { headers: bearer ? { authorization: `Bearer ${bearer}` } : {} })
  await reply.text()
  return { status: reply.status, took: performance.now() - started, at: started }
}

/** Calls on and on with tokens that are seconds old at most, until told to stop. */
function load() {
  const calls = []
  let running = true
  const caller = async () => {
    while (running) {
      const bearer = await token()
      for (let count = 0; running && count < 20; count++) calls.push(await call(bearer))
    }
  }
  const callers = Array.from({ length: CALLERS }, caller)
  return { calls, stop: async () => { running = false; await Promise.all(callers) } }
}

function check(what, good, details) {
  console.log(`${good ? 'ok' : 'FAILED'}: ${what}${details ? ` (${details})` : ''}`)
  if (!good) process.exitCode = 1
}

const [first, second, third] = await Promise.all(['first', 'second', 'third'].map(key))
publish([first])
createServer((request, reply) => {
  if (request.url === '/jwks') fetches++
  serve(request, reply)
}).listen(Number(port), '127.0.0.1')

for (let tries = 0; ; tries++) {
  const ready = await fetch(`${admin}/readyz`).catch(() => undefined)
  if (ready?.ok) break
  if (tries > 300) throw new Error('the gateway does not become ready')
  await sleep(100)
}
check('the keys were there before the gateway was ready', fetches >= 1)
const began = performance.now()
const before = fetches
check('without a token nobody gets in', (await call()).status === 401)
check('with a token of the provider one does', (await call(await token())).status === 200)

let running = load()
await sleep(500)
publish([first, second])
await sleep(REFRESH + 500)
publish([second, first])
await sleep(2 * REFRESH)
await running.stop()
let lost = running.calls.filter((one) => one.status !== 200)
check('a key that is published one refresh before its use loses no call', lost.length === 0 && running.calls.length > 100,
  `${running.calls.length} calls, ${lost.length} lost`)

running = load()
// Right after a fetch, when the floor keeps the next one away for longest.
for (const seen = fetches; fetches === seen;) await sleep(5)
await sleep(50)
publish([third, second])
const switched = performance.now()
await sleep(FLOOR + PATIENCE + 2000)
await running.stop()
lost = running.calls.filter((one) => one.status !== 200)
const late = lost.filter((one) => one.at > switched + FLOOR + PATIENCE)
const slowest = Math.max(...running.calls.map((one) => one.took))
check('a key that signs at once is taken one floor later at the latest', late.length === 0,
  `${running.calls.length} calls, ${lost.length} lost, ${late.length} after the floor`)
check('only tokens are refused, and nothing else happens', lost.every((one) => one.status === 401))
check('no call waits for much longer than a second', slowest < PATIENCE + 1000, `slowest ${Math.round(slowest)} ms`)

const floors = Math.ceil((performance.now() - began) / FLOOR)
check('the keys are fetched at most once for each floor', fetches - before <= floors, `${fetches - before} fetches in ${floors} floors`)
check('the key before the last one is still taken', (await call(await token())).status === 200)
process.exit()
