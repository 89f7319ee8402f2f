<?php
// Managed by socle.
$conf['savedir'] = {{ data ~ "/wiki" }};
$conf['baseurl'] = '';
$conf['updatecheck'] = 0;
$conf['fperm'] = 0640;
$conf['dperm'] = 0750;
$conf['userewrite'] = '1';
$conf['useacl'] = 1;
