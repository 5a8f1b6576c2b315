// A real OIDC provider (oidc-provider) on 127.0.0.1, with keys that can be rotated while it runs.
//
//   node provider.mjs PORT        prints `ready` when it listens
//
// Tokens: client credentials of the clients below (`at+jwt` for the audience `urn:gateway`), and ID tokens by the
// authorization code flow with the provider's own development pages.
// Control: POST /test/rotate (new keys, old ones withdrawn), POST /test/outage?on=true|false (the key set answers 500),
// GET /test/fetches (how often the key set was asked for).

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const audience = 'urn:gateway';
const people = ['alice', 'bob'];

let callback;
let outage = false;
let fetches = 0;

await rotate();

const server = createServer((request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname.startsWith('/test/')) {
    control(request, response, url).catch((error) => finish(response, 500, String(error)));
    return;
  }
  if (url.pathname === '/jwks') {
    fetches += 1;
    if (outage) {
      finish(response, 500, 'out of order');
      return;
    }
  }
  callback(request, response);
});
server.listen(port, '127.0.0.1', () => console.log('ready'));

async function control(request, response, url) {
  if (request.method === 'POST' && url.pathname === '/test/rotate') {
    finish(response, 200, await rotate());
  } else if (request.method === 'POST' && url.pathname === '/test/outage') {
    outage = url.searchParams.get('on') === 'true';
    finish(response, 200, String(outage));
  } else if (url.pathname === '/test/fetches') {
    finish(response, 200, String(fetches));
  } else {
    finish(response, 404, 'unknown');
  }
}

function finish(response, status, text) {
  response.writeHead(status, { 'Content-Type': 'text/plain' });
  response.end(text);
}

// A provider reads its keys once, so that rotating them means another provider behind the same issuer.
async function rotate() {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  const kid = randomUUID();
  const key = { ...(await exportJWK(privateKey)), kid, alg: 'RS256', use: 'sig' };
  const provider = new Provider(issuer, {
    jwks: { keys: [key] },
    cookies: { keys: ['a key of the tests'] },
    clients: [
      ...people.map((person) => ({
        client_id: person,
        client_secret: `${person}-secret`,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      })),
      {
        client_id: 'browser',
        client_secret: 'browser-secret',
        grant_types: ['authorization_code'],
        redirect_uris: ['http://127.0.0.1/callback'],
        response_types: ['code'],
      },
    ],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username'] },
    conformIdTokenClaims: false,
    findAccount: (_context, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.org`, email_verified: true, preferred_username: id }),
    }),
    extraTokenClaims: (_context, token) => ({
      preferred_username: token.clientId,
      email: `${token.clientId}@example.org`,
      email_verified: true,
    }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_context, client) => (client.clientId === 'browser' ? undefined : audience),
        getResourceServerInfo: () => ({
          audience,
          scope: 'call',
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    pkce: { required: () => false },
    ttl: { IdToken: 600, Interaction: 600, Session: 600, Grant: 600 },
  });
  callback = provider.callback();
  return kid;
}
