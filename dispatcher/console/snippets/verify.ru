# An application for Rack, which Rails and Sinatra stand on: rackup verify.ru
require 'openssl'

SECRET = 'whsec_…' # the callback's signing secret goes here

def verify(env, body, secret)
  key = secret.delete_prefix('whsec_').unpack1('m0')
  sent = env['HTTP_WEBHOOK_TIMESTAMP'].to_s
  return false unless sent.match?(/\A\d+\z/) && (Time.now.to_i - sent.to_i).abs <= 300

  text = "#{env['HTTP_WEBHOOK_ID']}.#{sent}.".b + body.b
  want = 'v1,' + [OpenSSL::HMAC.digest('SHA256', key, text)].pack('m0')
  signatures = env['HTTP_WEBHOOK_SIGNATURE'].to_s.split # two while a secret is replaced
  signatures.any? { |one| OpenSSL.secure_compare(one, want) }
end

run(lambda do |env|
  body = env['rack.input'].read # as it came, before anything parses it
  [verify(env, body, SECRET) ? 204 : 401, {}, []] # after a 204: keep it, and work on it later
end)
