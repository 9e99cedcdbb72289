-- rspamd symbols from botmilter's header.
--
-- Copy to /etc/rspamd/botmilter.lua, and add to /etc/rspamd/rspamd.local.lua the line
--   dofile("/etc/rspamd/botmilter.lua")
-- then: rspamadm configtest && systemctl restart rspamd
-- (Only rspamd 3.11 and newer read what lies in /etc/rspamd/lua.local.d; Debian 12 and Ubuntu 24.04
-- have an older one.)  The points can be changed in /etc/rspamd/local.d/groups.conf.
--
-- rspamd's milter must come after botmilter in Postfix' smtpd_milters, or it does not see the
-- header.

local points = {
  bot = 5.0,
  suspect = 2.0,
  clean = -0.5,
  unknown = 0.0,
}

local function botmilter(task)
  local value = task:get_header('X-Bot-Verdict')
  if not value then
    return false
  end
  local label = value:match('^(%a+)')
  if not label or not points[label] then
    return false
  end
  local reasons = value:match('reasons=([^;]*)') or ''
  return true, 1.0, label, (reasons:gsub('%s', ''))
end

for label, score in pairs(points) do
  rspamd_config:register_symbol({
    name = 'BOTMILTER_' .. label:upper(),
    score = score,
    group = 'botmilter',
    description = 'botmilter calls the sending host ' .. label,
    callback = function(task)
      local hit, weight, found, reasons = botmilter(task)
      if hit and found == label then
        return true, weight, reasons
      end
      return false
    end,
  })
end
