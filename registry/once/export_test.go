package once

var ReadReply = readReply
