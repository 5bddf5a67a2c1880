-- What a job wrote: read to its end, and shown in a buffer while it comes.

local connection = require('jobbroker.connection')
local M = {}

local WAIT = 60000 -- ms the broker holds a request while there is nothing new
local ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

local function from_base64(data)
  if vim.base64 then
    return vim.base64.decode(data)
  end
  local bits, count, out = 0, 0, {}
  for char in data:gmatch('[%w+/]') do
    bits, count = bits * 64 + ALPHABET:find(char, 1, true) - 1, count + 6
    if count >= 8 then
      count = count - 8
      local unit = 2 ^ count
      table.insert(out, string.char(math.floor(bits / unit)))
      bits = bits % unit
    end
  end
  return table.concat(out)
end

-- As a terminal without colours would show it.
local function plain(line)
  line = line:gsub('\27%[[%d;:?]*[ -/]*[@-~]', ''):gsub('\27%][^\7\27]*[\7]?', '')
  return (line:gsub('\r+$', ''):gsub('.*\r', ''))
end

-- Read from `cursor` on: on_piece(text) for each, on_end(err) once. `wanted()` false ends it. With `follow`, until the
-- job ends; otherwise what there is now. A lost connection is no end: it goes on where it was.
function M.read(id, wanted, on_piece, on_end, follow)
  local cursor = '0'
  local function ask()
    connection.request('job/output', { id = id, from = cursor, waitMs = follow and WAIT or nil }, function(err, piece)
      if not wanted() then
        return
      elseif err then
        return err.lost and ask() or not err.lost and on_end(err)
      end
      cursor = piece.next
      local text = piece.encoding == 'base64' and from_base64(piece.data) or piece.data
      if piece.dropped > 0 then
        text = '\n[' .. piece.dropped .. ' bytes were not kept]\n' .. text
      end
      on_piece(text)
      if piece.eof or (not follow and piece.data == '') then
        return on_end()
      end
      ask()
    end, true)
  end
  ask()
end

-- All lines of a job, when it has ended: callback(lines).
function M.lines(id, callback)
  local pieces = {}
  M.read(id, function()
    return true
  end, function(text)
    table.insert(pieces, text)
  end, function()
    local lines = vim.split(table.concat(pieces), '\n', { plain = true })
    if lines[#lines] == '' then
      table.remove(lines)
    end
    callback(vim.tbl_map(plain, lines))
  end)
end

local function append(buffer, state, text)
  local lines = vim.split(state.rest .. text, '\n', { plain = true })
  state.rest = lines[#lines]
  local count = vim.api.nvim_buf_line_count(buffer)
  local at_end = {}
  for _, window in ipairs(vim.fn.win_findbuf(buffer)) do
    if vim.api.nvim_win_get_cursor(window)[1] == count then
      table.insert(at_end, window)
    end
  end
  vim.bo[buffer].modifiable = true
  vim.api.nvim_buf_set_lines(buffer, -2, -1, false, vim.tbl_map(plain, lines))
  vim.bo[buffer].modifiable = false
  for _, window in ipairs(at_end) do -- who is at the end stays there; who reads further up is left alone
    vim.api.nvim_win_set_cursor(window, { vim.api.nvim_buf_line_count(buffer), 0 })
  end
end

-- Show a job's output in a window, and go on while it writes.
function M.open(job)
  local name = 'jobs://' .. job.id
  local buffer = vim.fn.bufnr('^' .. name .. '$')
  if buffer ~= -1 then
    vim.cmd('botright sbuffer ' .. buffer)
    return buffer
  end
  vim.cmd('botright new')
  buffer = vim.api.nvim_get_current_buf()
  vim.bo[buffer].buftype, vim.bo[buffer].bufhidden = 'nofile', 'wipe'
  vim.bo[buffer].swapfile, vim.bo[buffer].modifiable = false, false
  vim.api.nvim_buf_set_name(buffer, name)
  vim.bo[buffer].filetype = 'joboutput'
  local state = { rest = '' }
  M.read(job.id, function()
    return vim.api.nvim_buf_is_valid(buffer)
  end, function(text)
    append(buffer, state, text)
  end, function(err)
    if err then
      vim.notify('jobs: ' .. err.message, vim.log.levels.ERROR)
    end
  end, true)
  return buffer
end

return M
