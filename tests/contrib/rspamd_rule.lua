-- Loads the rule in $RULE as rspamd would, and applies it to the mail in $MAIL: prints
-- "hit SYMBOL" for each symbol that fires.  Run by test_filters.py under rspamadm lua.
local rspamd_task = require 'rspamd_task'

local symbols = {}
rspamd_config = {
  register_symbol = function(_, symbol)
    table.insert(symbols, symbol)
  end,
}
dofile(os.getenv('RULE'))

local file = assert(io.open(os.getenv('MAIL')))
local loaded, task = rspamd_task.load_from_string(file:read('*a'))
assert(loaded, 'the mail does not load')
task:process_message()
for _, symbol in ipairs(symbols) do
  if symbol.callback(task) then
    print('hit ' .. symbol.name)
  end
end
