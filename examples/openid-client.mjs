// Sign a user in by openid-client, call the API, refresh the token. Needs Node 18 and `npm ci`.
import { webcrypto } from 'node:crypto'
import http from 'node:http'
import * as oauth from 'openid-client'

globalThis.crypto ??= webcrypto // Node 18 does not have it by itself
const server = process.env.SERVER ?? 'http://127.0.0.1:4000'
const port = process.env.PORT ?? 3000
const clientId = '1380df72-275a-11e7-93ae-92361f002671'
const secret = 'ZlFOaHBTR0d3Q0hQcDEraHVYdXBVZz09'
const apiKey = 'uXhEczJ56adsfh3Ri9SUkc4en'

// OAuth 2.0 metadata, not those of OpenID Connect; and http, which is for localhost only.
const how = { algorithm: 'oauth2', execute: [oauth.allowInsecureRequests] }
const config = await oauth.discovery(new URL(server), clientId, secret, undefined, how)
const verifier = oauth.randomPKCECodeVerifier()
const state = oauth.randomState()
const url = oauth.buildAuthorizationUrl(config, {
  redirect_uri: `http://localhost:${port}/callback`,
  scope: 'employee:read connection:read',
  state,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
})

const callback = await new Promise((resolve) => {
  const listener = http.createServer((request, response) => {
    response.end('Signed in. This window can be closed.')
    if (!request.url.startsWith('/callback?')) return
    listener.close()
    resolve(new URL(request.url, `http://localhost:${port}`))
  })
  listener.listen(port, '127.0.0.1', () => console.log('Open', url.href))
})

const tokens = await oauth.authorizationCodeGrant(config, callback, { pkceCodeVerifier: verifier, expectedState: state })
const headers = new Headers({ 'API-key': apiKey })
const user = await oauth.fetchProtectedResource(config, tokens.access_token, new URL('/oauth/user', server), 'GET', null, headers)
console.log('Signed in as', (await user.json()).data.email)
console.log('Refreshed:', (await oauth.refreshTokenGrant(config, tokens.refresh_token)).access_token)
