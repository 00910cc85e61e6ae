-- knbl.base.say - messages on standard error. Names, answers of servers and ledgers come from elsewhere: what would
-- steer a terminal is replaced here, for all messages alike.
local text = require "knbl.base.text"

-- Writes one or several lines, as they are but for control characters.
return function(message) io.stderr:write(text.printable(message)) end
