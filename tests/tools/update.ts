// Updates a client connection with the types that openapi-typescript generates.
import createClient from "openapi-fetch";
import type { paths } from "./mithril.js";

declare const process: { env: Record<string, string> };
const { SERVER, TOKEN, API_KEY, CLIENT, CONNECTION, REDIRECT_URI } = process.env;

const client = createClient<paths>({
  baseUrl: SERVER!,
  headers: { Authorization: `Bearer ${TOKEN}`, "API-key": API_KEY },
});
const { data, error } = await client.PATCH("/api/clients/{client_id}/connections/{connection_id}", {
  params: { path: { client_id: CLIENT!, connection_id: CONNECTION! } },
  body: { redirect_uri: REDIRECT_URI! },
});
if (error) throw new Error(`${error.error.type}: ${error.error.message}`);
console.log(data.data.redirect_uri);
