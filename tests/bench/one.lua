-- one.lua SPEC_JSON HOST PORT TOKEN - makes one run against an agent and prints its result as JSON. The bench times it.
local core = require "knbl.core"
local spec, host, port, token = ...
local run, err = core.run(spec, { host = host, port = tonumber(port), token = token })
if not run then io.stderr:write(err.message, "\n") os.exit(1) end
while not run:wait(60) do end
print(run:result())
