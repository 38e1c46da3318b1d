// Makes the good tokens of tests/gateway/authentication/good.json: with `jose` and Node's cryptography, neither of which
// the gateway uses. Private keys are forgotten.
//
//     npm install && node tokens.mjs >../../tests/gateway/authentication/good.json
import { randomBytes } from 'node:crypto'
import { SignJWT, exportJWK, exportSPKI, generateKeyPair } from 'jose'

const ISSUER = 'https://issuer.example.com'
const AUDIENCE = 'api'
const FAR = 4102444800 // 2100-01-01

const jwks = { keys: [] }
const tokens = []
const keys = {}
const plain = () => ({ iss: ISSUER, aud: AUDIENCE, sub: 'ann', exp: FAR })

async function sign(name, alg, claims, header = {}, key = keys[alg]) {
  const token = await new SignJWT(claims).setProtectedHeader({ alg, kid: alg, ...header }).sign(key)
  tokens.push({ name, token })
}

const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']
for (const alg of algorithms) {
  const pair = await generateKeyPair(alg, { crv: alg === 'EdDSA' ? 'Ed25519' : undefined, extractable: true })
  keys[alg] = pair.privateKey
  jwks.keys.push({ ...(await exportJWK(pair.publicKey)), kid: alg, alg, use: 'sig' })
  await sign(alg, alg, plain())
}

// A key that does not say its algorithm takes those of its type; one without a name may be meant by any token.
const bare = await generateKeyPair('RS256', { extractable: true })
jwks.keys.push({ ...(await exportJWK(bare.publicKey)), kid: 'bare' })
await sign('a key without alg, by RS256', 'RS256', plain(), { kid: 'bare' }, bare.privateKey)
const nameless = await generateKeyPair('ES256', { extractable: true })
jwks.keys.push({ ...(await exportJWK(nameless.publicKey)), alg: 'ES256' })
await sign('a key without kid', 'ES256', plain(), { kid: 'whatever' }, nameless.privateKey)
await sign('a token without kid', 'ES384', plain(), { kid: undefined })
// What a set may hold beside keys for signatures.
jwks.keys.push({ ...(await exportJWK((await generateKeyPair('RSA-OAEP', { extractable: true })).publicKey)), kid: 'enc', use: 'enc' })
jwks.keys.push({ kty: 'future', kid: 'future' })

await sign('several audiences', 'ES256', { ...plain(), aud: ['other', AUDIENCE] })
await sign('times with a fraction', 'ES256', { ...plain(), exp: FAR + 0.5, nbf: 1.25, iat: 1600000000.75 })
await sign('nbf and iat long ago', 'ES256', { ...plain(), nbf: 0, iat: 1 })
await sign('a time before the epoch', 'ES256', { ...plain(), iat: -5 })
await sign('typ at+jwt', 'ES256', plain(), { typ: 'at+jwt' })
await sign('typ application/at+jwt', 'ES256', plain(), { typ: 'application/at+jwt' })
await sign('keys that it brings are not looked at', 'ES256', plain(), {
  jku: 'https://elsewhere.example.com/keys', x5u: 'https://elsewhere.example.com/cert', x5t: 'abc', jwk: jwks.keys[0],
})
await sign('nested claims', 'EdDSA', { ...plain(), realm_access: { roles: ['reader', 'librarian'] }, 'https://example.com/x': { y: [1, { z: null }] } })
await sign('any characters', 'EdDSA', { ...plain(), name: 'Ünï \u{1F600} "\\\u0007', kid: 'not a kid' })
await sign('no subject', 'ES256', { iss: ISSUER, aud: AUDIENCE, exp: FAR })
await sign('large', 'ES256', { ...plain(), groups: Array.from({ length: 200 }, (_, i) => `group-${i}-of-the-company`) })

const secret = randomBytes(64)
const shared = []
for (const alg of ['HS256', 'HS384', 'HS512']) {
  const token = await new SignJWT(plain()).setProtectedHeader({ alg }).sign(secret)
  shared.push({ name: alg, token })
}
const pem = await generateKeyPair('RS256', { extractable: true })
const byPem = await new SignJWT(plain()).setProtectedHeader({ alg: 'RS256', kid: 'any' }).sign(pem.privateKey)

console.log(JSON.stringify({
  jwks, tokens, secret: secret.toString('base64'), shared, pem: await exportSPKI(pem.publicKey), byPem,
}, null, 1))
