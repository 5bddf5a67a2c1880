if vim.g.loaded_jobbroker then
  return
end
vim.g.loaded_jobbroker = true

local function complete(lead)
  local found = {}
  for _, job in ipairs(require('jobbroker.jobs').sorted()) do
    for _, word in ipairs({ job.id, job.name }) do
      if vim.startswith(word, lead) and not vim.tbl_contains(found, word) then
        table.insert(found, word)
      end
    end
  end
  return found
end

local function command(name, action, options)
  vim.api.nvim_create_user_command(name, function(given)
    action(require('jobbroker'), given)
  end, options)
end

command('Job', function(api, given)
  api.run(given.args)
end, { nargs = '*', complete = 'shellcmd', desc = 'Start a shell command as a job' })
command('JobMake', function(api, given)
  api.make(given.args)
end, { nargs = '*', complete = 'file', desc = "Run 'makeprg' as a job, its errors into the quickfix list" })
command('Jobs', function(api, given)
  api.list(given.bang)
end, { bang = true, desc = 'The jobs of this directory, with ! all' })

for name, action in pairs({ JobOutput = 'output', JobCancel = 'cancel', JobRerun = 'rerun', JobErrors = 'errors' }) do
  command(name, function(api, given)
    api[action](given.args)
  end, { nargs = '?', complete = complete })
end
