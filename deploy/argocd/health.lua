-- Tells Argo CD how an object of group ecskms.dev fares, from metadata, status.observedGeneration and
-- status.conditions.
--
-- Reads no field of a single kind but conditions, so that one script serves all. Order matters: an object that is being
-- deleted, or whose status speaks of an older spec, is not done, whatever its conditions say.

local function answer(status, message)
  return { status = status, message = message }
end

if obj.metadata ~= nil and obj.metadata.deletionTimestamp ~= nil then
  return answer("Progressing", "being deleted")
end
if obj.status == nil or obj.status.conditions == nil then
  return answer("Progressing", "waiting for the operator")
end
local generation = obj.metadata ~= nil and obj.metadata.generation or nil
local observed = obj.status.observedGeneration
if observed == nil or (generation ~= nil and observed ~= generation) then
  return answer("Progressing", "waiting for the operator to see the latest change")
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local function holds(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end
local function told(name)
  local reason = conditions[name].reason or name
  local message = conditions[name].message or ""
  if message == "" then
    return reason
  end
  return reason .. ": " .. message
end

-- Somebody else wrote into status: what it says of a revocation is no proof any more.
if holds("JournalBroken") then
  return answer("Degraded", told("JournalBroken"))
end
-- A revoked key was given back out of band. It was taken again, but somebody must find out who did it. Once the key is
-- given back on demand, nothing is left to do.
if holds("RevocationReverted") and not holds("Restored") then
  return answer("Degraded", told("RevocationReverted"))
end
-- Standstills that somebody asked for: people approve, detach the source disk, set spec.cutover, or end the suspension.
local wanted = { ApprovalMissing = true, CutoverPending = true, Suspended = true }
if conditions.Ready ~= nil and not holds("Ready") and wanted[conditions.Ready.reason] then
  return answer("Suspended", told("Ready"))
end
if holds("Stalled") then
  return answer("Degraded", told("Stalled"))
end
if holds("Reconciling") then
  return answer("Progressing", told("Reconciling"))
end
if conditions.Ready == nil then
  return answer("Progressing", "waiting for the operator")
end
if holds("Ready") then
  return answer("Healthy", told("Ready"))
end
return answer("Progressing", told("Ready"))
