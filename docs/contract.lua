-- Prints the form of a ledger as a JSON Schema: ./knbl docs/contract.lua > docs/ledger.schema.json
local json = require "knbl.json"

io.write(json.encode(require "knbl.results.contract", true), "\n")
