# A host for a Rack application, as little as one request at a time needs: ruby rack.rb FILE PORT
require 'socket'
require 'stringio'

$app = nil
def run(app) = $app = app
load ARGV[0]

server = TCPServer.new('127.0.0.1', ARGV[1].to_i)
loop do
  client = server.accept
  next client.close unless client.gets # somebody who only knocks

  env = {}
  while (line = client.gets.chomp) != ''
    name, value = line.split(': ', 2)
    env["HTTP_#{name.upcase.tr('-', '_')}"] = value
  end
  env['rack.input'] = StringIO.new(client.read(env['HTTP_CONTENT_LENGTH'].to_i))
  status =
    begin
      $app.call(env)[0]
    rescue StandardError
      500
    end
  client.write("HTTP/1.1 #{status} X\r\nConnection: close\r\n#{"Content-Length: 0\r\n" unless status == 204}\r\n")
  client.close
end
