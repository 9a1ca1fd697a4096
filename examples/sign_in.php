<?php
// Sign a user in by the routes of ESOZ, call the API, refresh the token. Needs PHP 8 with the extension curl.
$server = getenv('SERVER') ?: 'http://127.0.0.1:4000';
$port = getenv('PORT') ?: '3000';
$redirect_uri = "http://localhost:$port/callback";
$client = ['client_id' => '1380df72-275a-11e7-93ae-92361f002671', 'client_secret' => 'ZlFOaHBTR0d3Q0hQcDEraHVYdXBVZz09'];
$api_key = 'uXhEczJ56adsfh3Ri9SUkc4en';

function call(string $url, array $headers, ?array $body = null): array {
    $curl = curl_init($url);
    curl_setopt_array($curl, [CURLOPT_RETURNTRANSFER => true, CURLOPT_HTTPHEADER => $headers]);
    if ($body) curl_setopt($curl, CURLOPT_POSTFIELDS, json_encode($body));
    $answer = curl_exec($curl);
    if ($answer === false || curl_getinfo($curl, CURLINFO_RESPONSE_CODE) >= 400) throw new Exception($answer ?: curl_error($curl));
    return json_decode($answer, true)['data'];
}

$random = fn () => rtrim(strtr(base64_encode(random_bytes(32)), '+/', '-_'), '=');
[$verifier, $state] = [$random(), $random()];
$challenge = rtrim(strtr(base64_encode(hash('sha256', $verifier, true)), '+/', '-_'), '=');
$listener = stream_socket_server("tcp://127.0.0.1:$port");
echo "Open $server/sign-in?", http_build_query([
    'client_id' => $client['client_id'], 'redirect_uri' => $redirect_uri, 'scope' => 'employee:read connection:read',
    'state' => $state, 'code_challenge' => $challenge, 'code_challenge_method' => 'S256',
]), "\n";
do {
    $browser = stream_socket_accept($listener, 600);
    for ($line = $header = fgets($browser); rtrim($header) !== ''; $header = fgets($browser));
    fwrite($browser, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nSigned in. This window can be closed.");
    fclose($browser);
} while (!preg_match('~^GET /callback\?(\S+)~', $line, $found));
parse_str($found[1], $answer);
if (!hash_equals($state, $answer['state'] ?? '')) throw new Exception('this answer is not for our request');

$token = call("$server/oauth/tokens", ['Content-Type: application/json'], ['token' => $client + [
    'grant_type' => 'authorization_code', 'code' => $answer['code'], 'redirect_uri' => $redirect_uri, 'code_verifier' => $verifier,
]]);
$user = call("$server/oauth/user", ["Authorization: Bearer {$token['value']}", "API-key: $api_key"]);
echo "Signed in as {$user['email']}\n";
$token = call("$server/oauth/tokens", ['Content-Type: application/json'], ['token' => $client + [
    'grant_type' => 'refresh_token', 'refresh_token' => $token['details']['refresh_token'],
]]);
echo "Refreshed: {$token['value']}\n";
