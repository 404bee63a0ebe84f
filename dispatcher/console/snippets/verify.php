<?php // php -S 127.0.0.1:9000 verify.php

const SECRET = 'whsec_…'; // the callback's signing secret goes here

function verify(array $server, string $body, string $secret): bool
{
    $key = base64_decode(substr($secret, strlen('whsec_')), true);
    $sent = $server['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!$key || !ctype_digit($sent) || abs(time() - (int) $sent) > 300) {
        return false;
    }
    $text = ($server['HTTP_WEBHOOK_ID'] ?? '') . '.' . $sent . '.' . $body;
    $want = 'v1,' . base64_encode(hash_hmac('sha256', $text, $key, true));
    foreach (explode(' ', $server['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $one) { // two while a secret is replaced
        if (hash_equals($want, $one)) {
            return true;
        }
    }
    return false;
}

$body = file_get_contents('php://input'); // as it came, before anything parses it
http_response_code(verify($_SERVER, $body, SECRET) ? 204 : 401); // after a 204: keep it, and work on it later
