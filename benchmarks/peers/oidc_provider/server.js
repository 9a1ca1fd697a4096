// oidc-provider with introspection enabled, its artefacts in PostgreSQL, and a given number of processes.
import cluster from 'node:cluster';
import pg from 'pg';
import { Provider } from 'oidc-provider';

const [port, workers] = process.argv.slice(2).map(Number);
// The folder of a socket is in the query; the URL then has no host, which the class URL refuses.
const url = new URL(process.env.PEER_DATABASE_URL.replace('@/', '@localhost/'));
const pool = new pg.Pool({
  host: url.searchParams.get('host') ?? url.hostname,
  port: Number(url.searchParams.get('port') ?? 5432),
  user: url.username,
  database: url.pathname.slice(1),
  max: 10,
});

// The adapter that the documentation of the library requires: one table, read by kind and identifier.
class PostgresAdapter {
  constructor(name) { this.name = name; }
  async find(id) {
    const query = {
      name: 'find',
      text: 'SELECT payload FROM oidc_payloads WHERE kind = $1 AND id = $2 AND expires_at > now()',
      values: [this.name, id],
    };
    const { rows } = await pool.query(query);
    return rows[0]?.payload;
  }
  async upsert(id, payload, expiresIn) {
    const text = `INSERT INTO oidc_payloads (kind, id, payload, expires_at)
                  VALUES ($1, $2, $3, now() + make_interval(secs => $4))
                  ON CONFLICT (kind, id) DO UPDATE SET payload = excluded.payload, expires_at = excluded.expires_at`;
    await pool.query({ name: 'upsert', text, values: [this.name, id, payload, expiresIn] });
  }
  async destroy(id) {
    await pool.query('DELETE FROM oidc_payloads WHERE kind = $1 AND id = $2', [this.name, id]);
  }
  async consume(id) {
    const text = `UPDATE oidc_payloads
                     SET payload = payload || jsonb_build_object('consumed', extract(epoch FROM now())::bigint)
                   WHERE kind = $1 AND id = $2`;
    await pool.query({ name: 'consume', text, values: [this.name, id] });
  }
  async findByUid() {}
  async findByUserCode() {}
  async revokeByGrantId() {}
}

if (cluster.isPrimary && workers > 1) {
  for (let number = 0; number < workers; number += 1) cluster.fork();
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.kill('SIGTERM');
    process.exit(0);
  });
} else {
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    adapter: PostgresAdapter,
    clients: [{
      client_id: 'gateway',
      client_secret: 'gateway-secret',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    }, {
      client_id: 'exchanging',
      client_secret: 'exchanging-secret',
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: ['https://mis.example.com/callback'],
    }],
    scopes: ['openid', 'connection:write'],
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    issueRefreshToken: () => true,
    pkce: { required: () => false },
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      devInteractions: { enabled: false },
    },
  });
  provider.listen(port, '127.0.0.1');
}
