// Sign a user in by simple-oauth2, call the API, refresh the token, revoke the first one. Needs Node 18 and `npm ci`.
import crypto from 'node:crypto'
import http from 'node:http'
import { AuthorizationCode } from 'simple-oauth2'

const server = process.env.SERVER ?? 'http://127.0.0.1:4000'
const port = process.env.PORT ?? 3000
const apiKey = 'uXhEczJ56adsfh3Ri9SUkc4en'
const client = new AuthorizationCode({
  client: { id: '1380df72-275a-11e7-93ae-92361f002671', secret: 'ZlFOaHBTR0d3Q0hQcDEraHVYdXBVZz09' },
  auth: { tokenHost: server, tokenPath: '/oauth2/token', authorizePath: '/oauth2/authorize', revokePath: '/oauth2/revoke' },
})
const redirect_uri = `http://localhost:${port}/callback`
const code_verifier = crypto.randomBytes(32).toString('base64url')
const code_challenge = crypto.createHash('sha256').update(code_verifier).digest('base64url')
const state = crypto.randomBytes(16).toString('base64url')
const scope = 'employee:read connection:read'
const url = client.authorizeURL({ redirect_uri, scope, state, code_challenge, code_challenge_method: 'S256' })

const returned = await new Promise((resolve) => {
  const listener = http.createServer((request, response) => {
    response.end('Signed in. This window can be closed.')
    if (!request.url.startsWith('/callback?')) return
    listener.close()
    resolve(new URL(request.url, redirect_uri).searchParams)
  })
  listener.listen(port, '127.0.0.1', () => console.log('Open', url))
})
if (returned.get('state') !== state) throw new Error('this answer is not for our request')
if (returned.has('error')) throw new Error(returned.get('error_description'))

const first = await client.getToken({ code: returned.get('code'), redirect_uri, code_verifier })
const headers = { Authorization: `Bearer ${first.token.access_token}`, 'API-key': apiKey }
console.log('Signed in as', (await (await fetch(`${server}/oauth/user`, { headers })).json()).data.email)
const second = await first.refresh()
await first.revoke('access_token')
console.log('Refreshed:', second.token.access_token)
